package oci

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// WriteText writes the inspection for people: a section for each subject, and those that do not apply left out.
func (i Inspection) WriteText(w io.Writer) error {
	s := &sections{}
	s.overview(i)
	if p := i.Plan; p != nil {
		s.enforcement(p.Enforcement)
		s.network(p)
		s.ports(i.Ports)
		s.landlock(p.Landlock)
		s.filters(p)
		s.namespaces(p)
		s.mounts(p.Root)
		s.process(p.Process)
		s.limits(p)
	}
	_, err := io.WriteString(w, s.text.String())
	return err
}

const timeLayout = "2006-01-02 15:04:05 MST"

// sections is a text of titled tables.
type sections struct{ text strings.Builder }

// section writes one titled table, unless it has no rows.
func (s *sections) section(title string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	if s.text.Len() > 0 {
		s.text.WriteByte('\n')
	}
	s.text.WriteString(title + "\n")
	var table strings.Builder
	const padding = 2
	t := tabwriter.NewWriter(&table, 0, 1, padding, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(t, "  "+strings.Join(row, "\t"))
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(table.String()) {
		s.text.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// printable shows what a terminal, or the table, might take for a command as what it is: names in it are the image's and the spec's.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func (s *sections) overview(i Inspection) {
	rows := [][]string{{"id", i.State.ID}, {"status", string(i.State.Status)}}
	add := func(name, value string) { rows = append(rows, []string{name, value}) }
	if i.State.PID > 0 {
		add("pid", strconv.Itoa(i.State.PID))
	}
	monitor := strconv.Itoa(i.Monitor.PID)
	switch {
	case i.Monitor.Running:
	case i.State.Status == specs.StateStopped && i.Exit != nil:
		monitor += ", has ended"
	case i.State.Status == specs.StateStopped:
		monitor += ", was killed" + killedToo(i.Plan)
	case i.Plan != nil && i.Plan.Supervised():
		monitor += ", is gone: what it supervised is refused from now on"
	default:
		monitor += ", is gone"
	}
	add("monitor", monitor)
	add("bundle", i.State.Bundle)
	add("root", i.State.Rootfs)
	add("created", i.State.Created.Format(timeLayout))
	add("owner", i.State.Owner)
	if i.Exit != nil {
		add("ended", exitText(*i.Exit))
	}
	if i.Plan != nil && len(i.Plan.Policy.Profiles) > 0 {
		add("profiles", strings.Join(i.Plan.Policy.Profiles, ", "))
	}
	s.section("Container", rows)
}

// killedToo is what becomes of a workload whose monitor is killed.
func killedToo(p *plan.Plan) string {
	if p != nil && p.Supervised() {
		return ", and the workload with it"
	}
	return ""
}

func exitText(e state.Exit) string {
	text := e.Time.Format(timeLayout)
	// A reason without a code is why there is none.
	if e.Code != 0 || e.Reason == "" {
		text += ", exit code " + strconv.Itoa(e.Code)
	}
	if e.Signal != 0 {
		text += ", signal " + strconv.Itoa(e.Signal)
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func (s *sections) namespaces(p *plan.Plan) {
	var rows [][]string
	for _, ns := range p.Namespaces {
		how := "new"
		if ns.Path != "" {
			how = "joins " + ns.Path
		}
		rows = append(rows, []string{ns.Type, how})
	}
	for _, list := range []struct {
		name     string
		mappings []specs.LinuxIDMapping
	}{{"uids", p.UIDMappings}, {"gids", p.GIDMappings}} {
		for _, m := range list.mappings {
			rows = append(rows, []string{list.name, fmt.Sprintf("%d to %d are %d to %d of the host", m.ContainerID,
				uint64(m.ContainerID)+uint64(m.Size)-1, m.HostID, uint64(m.HostID)+uint64(m.Size)-1)})
		}
	}
	if p.Hostname != "" {
		rows = append(rows, []string{"hostname", p.Hostname})
	}
	for _, key := range slices.Sorted(maps.Keys(p.Sysctl)) {
		rows = append(rows, []string{"sysctl " + key, p.Sysctl[key]})
	}
	s.section("Namespaces", rows)
}

func (s *sections) mounts(m chroot.Map) {
	how := "read-write"
	if m.Root.ReadOnly {
		how = "read-only"
	}
	rows := [][]string{{"/", "root", m.Root.Source, how}}
	for _, e := range m.Entries {
		kind, source := e.Type, e.Source
		switch e.Kind {
		case chroot.Bind:
			kind = "bind"
		case chroot.Written:
			kind, source = "file", "written for "+e.Origin
		}
		options := (e.Set | e.RecursiveSet).String()
		if len(e.Data) > 0 {
			options = strings.Trim(options+","+strings.Join(e.Data, ","), ",")
		}
		rows = append(rows, []string{e.Destination, kind, source, options})
	}
	for _, list := range []struct {
		kind  string
		paths []string
	}{{"denied", m.Denied}, {"masked", m.Masked}, {"read-only", m.ReadOnly}} {
		for _, path := range list.paths {
			rows = append(rows, []string{path, list.kind})
		}
	}
	s.section("Mounts", rows)
}

func (s *sections) process(p plan.Process) {
	rows := [][]string{
		{"command", strings.Join(p.Args, " ")},
		{"directory", p.Cwd},
		{"user", fmt.Sprintf("%d:%d", p.UID, p.GID)},
	}
	if len(p.Groups) > 0 {
		texts := make([]string, len(p.Groups))
		for i, group := range p.Groups {
			texts[i] = strconv.FormatUint(uint64(group), 10)
		}
		rows = append(rows, []string{"groups", strings.Join(texts, ", ")})
	}
	rows = append(rows, []string{"capabilities", capabilityText(p.Capabilities.Effective)})
	if p.Capabilities.Bounding != p.Capabilities.Effective {
		rows = append(rows, []string{"bounding set", capabilityText(p.Capabilities.Bounding)})
	}
	rows = append(rows, []string{"no_new_privs", strconv.FormatBool(p.NoNewPrivileges)})
	for _, limit := range p.Rlimits {
		rows = append(rows, []string{limit.Type, fmt.Sprintf("%d, at most %d", limit.Soft, limit.Hard)})
	}
	s.section("Process", rows)
}

// capabilityText lists a set without the CAP_ that all names have.
func capabilityText(set uint64) string {
	if set == 0 {
		return "none"
	}
	var list []string
	for _, c := range capability.ListKnown() {
		if set>>uint(c)&1 != 0 {
			list = append(list, c.String())
		}
	}
	return strings.Join(list, ", ")
}

// defaultPeriod is the kernel's period of a CPU quota, in microseconds, see Documentation/scheduler/sched-bwc.rst.
const defaultPeriod = 100000

func (s *sections) limits(p *plan.Plan) {
	r, err := p.InForce()
	if err != nil {
		r = p.Resources
	}
	if r == nil {
		return
	}
	var rows [][]string
	if m := r.Memory; m != nil {
		rows = limit(rows, "memory", m.Limit, "bytes")
		rows = limit(rows, "memory and swap", m.Swap, "bytes")
		rows = limit(rows, "memory reservation", m.Reservation, "bytes")
	}
	if p := r.Pids; p != nil {
		rows = limit(rows, "tasks", p.Limit, "")
	}
	if c := r.CPU; c != nil {
		if c.Quota != nil && *c.Quota > 0 {
			period := uint64(defaultPeriod)
			if c.Period != nil && *c.Period > 0 {
				period = *c.Period
			}
			rows = append(rows, []string{"CPU", fmt.Sprintf("%d µs in %d µs", *c.Quota, period)})
		}
		if c.Shares != nil && *c.Shares > 0 {
			rows = append(rows, []string{"CPU shares", strconv.FormatUint(*c.Shares, 10)})
		}
		if c.Cpus != "" {
			rows = append(rows, []string{"CPUs", c.Cpus})
		}
		if c.Mems != "" {
			rows = append(rows, []string{"memory nodes", c.Mems})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
		rows = append(rows, []string{key, r.Unified[key]})
	}
	s.section("Limits", rows)
}

// limit adds a row for a limit, if there is one: 0 and less are none.
func limit(rows [][]string, name string, value *int64, unit string) [][]string {
	if value == nil || *value <= 0 {
		return rows
	}
	return append(rows, []string{name, strings.TrimSpace(strconv.FormatInt(*value, 10) + " " + unit)})
}
