package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

//go:embed floor/net.c
var netSource []byte

const (
	netRounds    = 25
	netInstances = 6    // fresh containers of each place that a server's throughput is measured in: two of one kind differ by some percent for their whole life
	perInstance  = 6    // rounds in each of them
	callsPerPart = 3000 // connects or sends that one run of net makes
	addressRule  = "127.0.0.0/8"
)

// net compares servers under an active address rule with the same under runc, and calls with and without the rule.
func (b *bench) net() error {
	root := filepath.Join(b.dir, "debian")
	if err := testbundle.Debian(root); err != nil {
		return err
	}
	if err := compile(netSource, filepath.Join(root, "root/net")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "var/www/index.html"), make([]byte, pageSize), 0o644); err != nil {
		return err
	}
	var runc *candidate
	for _, c := range b.runtimes {
		if c.name == "runc" {
			runc = c
		}
	}
	places := []*place{
		{name: b.ours.name + " with " + addressRule, runtime: b.ours, rule: addressRule},
		{name: b.ours.name + " without rule", runtime: b.ours},
		{name: "runc", runtime: runc},
	}
	for _, server := range []server{redis, nginxCached, nginxDebian} {
		if err := os.WriteFile(filepath.Join(root, serverConfig), []byte(server.config), 0o600); err != nil {
			return err
		}
		again := &place{name: "runc once more", runtime: runc}
		if err := b.throughput(server, root, []*place{places[0], places[2], again}); err != nil {
			return fmt.Errorf("%s: %w", server.name, err)
		}
	}
	for _, call := range []string{"connect", "sendmsg", "request"} {
		if err := b.calls(call, root, places); err != nil {
			return fmt.Errorf("%s: %w", call, err)
		}
	}
	if err := b.opens(root, places); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

func compile(source []byte, program string) error {
	path := program + ".c"
	if err := os.WriteFile(path, source, 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("cc", "-O2", "-static", "-o", program, path).CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	return nil
}

// place is a container under one of the runtimes, and what was measured in it.
type place struct {
	name    string
	runtime *candidate
	rule    string
	id      string
	values  []float64
	cost    []float64 // nanoseconds of CPU time that the container took for a request
}

// throughput runs the server in each place and its client in turn, in one set of containers after another. The last two places are
// of one kind: what is between them is what the machine cannot tell apart.
func (b *bench) throughput(s server, root string, places []*place) error {
	title("net: %s, %d rounds in each of %d containers", s.name, perInstance, netInstances)
	for _, p := range places {
		p.values, p.cost = nil, nil
	}
	for range netInstances {
		if err := b.instance(s, root, places); err != nil {
			return err
		}
	}
	report(places, func(p *place) string { return fmt.Sprintf("%10.0f /s", median(p.values)) })
	// Which other work on the machine changes less than it does the throughput.
	fmt.Println("CPU time for a request")
	for _, p := range places {
		fmt.Printf("%-44s %10.2f µs", p.name, median(p.cost)/1000)
		if p != places[0] {
			fmt.Printf("       the first to it %.3f (paired %.3f)", median(places[0].cost)/median(p.cost), median(ratios(places[0].cost, p.cost)))
		}
		fmt.Println()
	}
	control, last := places[len(places)-2], places[len(places)-1]
	fmt.Printf("control, %s to %s: %.3f of the throughput, %.3f of the CPU time, paired\n", last.name, control.name,
		median(ratios(last.values, control.values)), median(ratios(last.cost, control.cost)))
	return nil
}

// instance starts the server in a fresh container of each place, and measures them in turn.
func (b *bench) instance(s server, root string, places []*place) error {
	for _, p := range places {
		stop, err := b.up(p, root, s.args)
		if err != nil {
			return err
		}
		defer stop()
	}
	return b.alternate(perInstance, places, s.client, s.result, s.count)
}

func ratios(a, b []float64) []float64 {
	of := make([]float64, min(len(a), len(b)))
	for i := range of {
		of[i] = a[i] / b[i]
	}
	return of
}

// calls times one system call in each place.
func (b *bench) calls(call, root string, places []*place) error {
	title("net: %s, %d rounds, medians of %d", call, netRounds, callsPerPart)
	for _, p := range places {
		p.values, p.cost = nil, nil
		stop, err := b.up(p, root, []string{"sleep", "1000"})
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := b.alternate(netRounds, places, []string{"/root/net", call, strconv.Itoa(callsPerPart)}, aNumber, nil); err != nil {
		return err
	}
	report(places, medianCall)
	more := make([]float64, netRounds)
	for i := range more {
		more[i] = (places[0].values[i] - places[1].values[i]) / 1000
	}
	fmt.Printf("%-44s %8.2f µs\n", "the rule costs, paired", median(more))
	return nil
}

// opens times open and close in each place, in containers' first processes: what "exec" starts is not under Landlock where that keeps nothing from the container's own root.
func (b *bench) opens(root string, places []*place) error {
	title("net: open and close, %d rounds, medians of %d", netRounds, callsPerPart)
	for round := -1; round < netRounds; round++ {
		for _, p := range inTurn(places, round) {
			if round < 0 {
				p.values = nil
			}
			dir, err := b.prepare(p, root, []string{"/root/net", "open", strconv.Itoa(callsPerPart)})
			if err != nil {
				return err
			}
			text, err := b.output(p, "run", "--bundle", dir, p.id)
			if err != nil {
				return err
			}
			if round >= 0 {
				p.values = append(p.values, number(aNumber, text))
			}
		}
	}
	report(places, medianCall)
	return nil
}

var aNumber = regexp.MustCompile(`([0-9]+)`)

func medianCall(p *place) string { return fmt.Sprintf("%8.2f µs", median(p.values)/1000) }

// inTurn lets each place go first as often as last.
func inTurn(places []*place, round int) []*place {
	turn := (round + 1) % len(places)
	order := slices.Concat(places[turn:], places[:turn])
	if round%2 != 0 {
		slices.Reverse(order)
	}
	return order
}

// prepare writes the bundle of a new container in a place, and returns its directory.
func (b *bench) prepare(p *place, root string, args []string) (dir string, err error) {
	p.id = fmt.Sprintf("bench-net-%s-%d-%d", p.runtime.name, os.Getpid(), time.Now().UnixNano())
	spec, err := testbundle.Spec(p.id, root, args...)
	if err != nil {
		return "", err
	}
	spec.Mounts = slices.Insert(spec.Mounts, 0, testbundle.MountUsr())
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	if p.rule != "" {
		spec.Annotations = map[string]string{"io.sandlock.network.allow": p.rule}
	}
	dir = filepath.Join(b.dir, p.id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, testbundle.Write(dir, spec)
}

// up starts a container in a place and returns how to remove it.
func (b *bench) up(p *place, root string, args []string) (stop func(), err error) {
	dir, err := b.prepare(p, root, args)
	if err != nil {
		return nil, err
	}
	if err := p.runtime.do(nil, "run", "--detach", "--bundle", dir, p.id); err != nil {
		return nil, err
	}
	return func() {
		if err := p.runtime.do(nil, "delete", "--force", p.id); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}, nil
}

// alternate runs a client in each place in turn, round after round, after one that does not count.
func (b *bench) alternate(rounds int, places []*place, client []string, result, count *regexp.Regexp) error {
	for round := -1; round < rounds; round++ {
		for _, p := range inTurn(places, round) {
			before, err := b.cpuTime(p)
			if err != nil {
				return err
			}
			text, err := b.runIn(p, client, result)
			if err != nil {
				return err
			}
			after, err := b.cpuTime(p)
			if err != nil {
				return err
			}
			if round >= 0 {
				requests := float64(redisRequests)
				if count != nil {
					requests = number(count, text)
				}
				p.values, p.cost = append(p.values, number(result, text)), append(p.cost, (after-before)/requests)
			}
		}
	}
	return nil
}

// report prints what was measured in each place.
func report(places []*place, show func(*place) string) {
	for _, p := range places {
		fmt.Printf("%-44s %s", p.name, show(p))
		if p != places[0] {
			fmt.Printf("       the first to it %.3f (paired %.3f)", median(places[0].values)/median(p.values), median(ratios(places[0].values, p.values)))
		}
		fmt.Println()
	}
}

// number returns what an expression finds in a text, which it has been seen to find.
func number(find *regexp.Regexp, text []byte) float64 {
	found := find.FindSubmatch(text)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(found[1]), 64) // all expressions find digits
	return n
}

// cpuTime returns how many nanoseconds of CPU time a container has had.
func (b *bench) cpuTime(p *place) (float64, error) {
	text, err := b.output(p, "events", "--stats", p.id)
	if err != nil {
		return 0, err
	}
	var event struct {
		Data struct {
			CPU struct{ Usage struct{ Total float64 } }
		}
	}
	if err := json.Unmarshal(text, &event); err != nil {
		return 0, fmt.Errorf("events --stats: %w", err)
	}
	return event.Data.CPU.Usage.Total, nil
}

// runIn runs a client in a place, again and again until its server answers, and returns what it prints.
func (b *bench) runIn(p *place, client []string, result *regexp.Regexp) ([]byte, error) {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); ; {
		text, err := b.output(p, append([]string{"exec", p.id}, client...)...)
		if err == nil && result.Match(text) {
			return text, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the client said %q: %w", text, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// output runs a command of the place's runtime and returns what it prints.
func (b *bench) output(p *place, args ...string) ([]byte, error) {
	out, err := os.CreateTemp(b.dir, "out")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(out.Name()) }() // with the directory, at the latest
	defer out.Close()
	if err := p.runtime.do(out, args...); err != nil {
		return nil, err
	}
	return os.ReadFile(out.Name())
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
