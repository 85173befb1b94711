package oci

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/landlock"
	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

func (s *sections) enforcement(list []plan.Enforcement) {
	if len(list) == 0 {
		return
	}
	rows := [][]string{{"RULE", "ENFORCED BY", "WHY"}}
	for _, e := range list {
		rows = append(rows, []string{e.Rule, e.By, e.Why})
	}
	s.section("Enforcement", rows)
}

func (s *sections) network(p *plan.Plan) {
	if p.Network.Unrestricted() {
		rows := [][]string{{"no egress rules"}}
		if !p.Bind.Unrestricted() {
			rows = append(rows, []string{"bind " + p.Bind.String()})
		}
		s.section("Network", rows)
		return
	}
	var rows [][]string
	for i, layer := range p.Network.AllowLayers() {
		title := "allow"
		if i > 0 {
			title = "and of that only"
		}
		if len(layer) == 0 {
			rows = append(rows, []string{title, "nothing"})
		}
		for _, rule := range layer {
			rows = append(rows, []string{title, rule.String()})
		}
	}
	for _, rule := range p.Network.DenyRules() {
		rows = append(rows, []string{"deny", rule.String()})
	}
	pinned := p.Network.Pinned()
	for _, name := range slices.Sorted(maps.Keys(pinned)) {
		rows = append(rows, []string{"name", name + " is " + addressList(pinned[name])})
	}
	if !p.Bind.Unrestricted() {
		rows = append(rows, []string{"bind", p.Bind.String()})
	}
	s.section("Network", rows)
}

func (s *sections) ports(list []netfilter.Binding) {
	var rows [][]string
	for _, b := range list {
		row := []string{netip.AddrPortFrom(b.Addr, b.Virtual).String(), "is as it is outside"}
		if b.Real != b.Virtual {
			row[1] = fmt.Sprintf("is port %d outside", b.Real)
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		s.section("TCP ports", rows)
	}
}

func addressList(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return strings.Join(texts, ", ")
}

func (s *sections) landlock(r *landlock.Ruleset) {
	if r == nil {
		s.section("Landlock", [][]string{{"none"}})
		return
	}
	rows := [][]string{{"handled", strings.Join(handled(r.Handled), "; ")}}
	for _, rule := range r.Paths {
		access := rule.Access.String()
		switch {
		case rule.Access == r.Handled.FS:
			access = "everything"
		case rule.Access == landlock.Read&r.Handled.FS:
			access = "read, execute"
		case rule.Access == landlock.Write&r.Handled.FS:
			access = "read, execute, change"
		}
		rows = append(rows, []string{rule.Path, access, rule.Source})
	}
	if r.Handled.Net&landlock.ConnectTCP != 0 {
		rows = append(rows, []string{"connect TCP", portList(r.ConnectTCP)})
	}
	if r.Handled.Net&landlock.BindTCP != 0 {
		rows = append(rows, []string{"bind TCP", portList(r.BindTCP)})
	}
	for _, o := range r.Omitted {
		rows = append(rows, []string{"without " + string(o.Protection), string(o.Mode), o.Result})
	}
	s.section(fmt.Sprintf("Landlock (ABI %d)", r.ABI), rows)
}

func handled(h landlock.Handled) []string {
	var list []string
	for _, set := range []string{h.FS.String(), h.Net.String(), h.Scope.String()} {
		if set != "" {
			list = append(list, set)
		}
	}
	return list
}

func portList(ports landlock.Ports) string {
	if len(ports) == 0 {
		return "no port"
	}
	return ports.String()
}

func (s *sections) filters(p *plan.Plan) {
	var rows [][]string
	if p.Seccomp != nil {
		rows = append(rows, []string{"linux.seccomp", fmt.Sprintf("default %s, %d rules", p.Seccomp.DefaultAction, len(p.Seccomp.Syscalls))})
	}
	if p.HasOverlay() {
		rows = append(rows, overlayRows(p.Overlay)...)
	}
	if len(rows) == 0 {
		rows = [][]string{{"none: every system call runs at the kernel's speed"}}
	}
	s.section("Filters", rows)
}

// overlayRows lists what is supervised first, then what is refused; calls that are refused in the same way share a row.
func overlayRows(o seccompnotif.Overlay) [][]string {
	var rows [][]string
	for _, name := range o.Notify {
		rows = append(rows, []string{"supervised", name})
	}
	for _, n := range o.NotifyWhen {
		rows = append(rows, []string{"supervised", n.Syscall + conditions(n.When)})
	}
	rows = append(rows, []string{errnoName(unix.ENOSYS), "foreign architectures"})
	var last seccompnotif.Denial
	for _, d := range o.Deny {
		if d.Group != "" && d.Group == last.Group && d.Errno == last.Errno {
			rows[len(rows)-1][1] += ", " + d.Syscall + conditions(d.When)
			continue
		}
		text := d.Syscall + conditions(d.When)
		if d.Group != "" {
			text = d.Group + ": " + text
		}
		rows = append(rows, []string{errnoName(d.Errno), text})
		last = d
	}
	return rows
}

func conditions(when []seccompnotif.Match) string {
	var b strings.Builder
	for i, m := range when {
		b.WriteString([]string{" when ", " and "}[min(i, 1)])
		b.WriteString(m.String())
	}
	return b.String()
}

func errnoName(e unix.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return "errno " + strconv.Itoa(int(e))
}
