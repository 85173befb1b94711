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
	if err := os.WriteFile(filepath.Join(root, "etc/nginx.conf"), []byte(nginxConfig), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "var/www/index.html"), make([]byte, 612), 0o644); err != nil {
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
	for _, server := range []server{redis, nginx} {
		if err := b.throughput(server, root, []*place{places[0], places[2]}); err != nil {
			return fmt.Errorf("%s: %w", server.name, err)
		}
	}
	for _, call := range []string{"connect", "sendmsg"} {
		if err := b.calls(call, root, places); err != nil {
			return fmt.Errorf("%s: %w", call, err)
		}
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

// server is a program with the client that loads it, both in one container.
type server struct {
	name   string
	args   []string
	client []string
	result *regexp.Regexp // finds requests a second in what the client prints
	count  *regexp.Regexp // finds how many requests there were, if the client does not make redisRequests
}

const redisRequests = 100000

var redis = server{
	"redis-benchmark, GET, 50 connections",
	[]string{"redis-server", "--port", "6379", "--save", "", "--daemonize", "no", "--logfile", "/dev/null"},
	[]string{"redis-benchmark", "-q", "-t", "get", "-c", "50", "-n", strconv.Itoa(redisRequests)},
	regexp.MustCompile(`GET: ([0-9.]+) requests per second`),
	nil,
}

const nginxConfig = `daemon off; user root; worker_processes 1; pid /tmp/nginx.pid; error_log /dev/null;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
sendfile on; tcp_nopush on; open_file_cache max=16; keepalive_requests 100000000; server { listen 127.0.0.1:8080; root /var/www; } }
`

var nginx = server{
	"nginx and wrk, 612 bytes, 32 connections",
	[]string{"nginx", "-c", "/etc/nginx.conf"},
	[]string{"wrk", "-t", "1", "-c", "32", "-d", "1s", "http://127.0.0.1:8080/"},
	regexp.MustCompile(`Requests/sec: +([0-9.]+)`),
	regexp.MustCompile(`([0-9]+) requests in`),
}

// throughput runs the server in each place and its client in turn.
func (b *bench) throughput(s server, root string, places []*place) error {
	title("net: %s, %d rounds", s.name, netRounds)
	for _, p := range places {
		stop, err := b.up(p, root, s.args)
		if err != nil {
			return err
		}
		defer stop()
	}
	err := b.alternate(places, s.client, s.result, s.count, func(p *place) string {
		return fmt.Sprintf("%10.0f /s", median(p.values))
	})
	if err != nil {
		return err
	}
	// Which other work on the machine changes less than it does the throughput.
	fmt.Printf("%-44s %8.2f µs and %.2f µs       the first to the second %.3f (paired %.3f)\n", "CPU time for a request", median(places[0].cost)/1000,
		median(places[1].cost)/1000, median(places[0].cost)/median(places[1].cost), median(ratios(places[0].cost, places[1].cost)))
	return nil
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
	title("net: %s, allowed, %d rounds, medians of %d", call, netRounds, callsPerPart)
	for _, p := range places {
		stop, err := b.up(p, root, []string{"sleep", "1000"})
		if err != nil {
			return err
		}
		defer stop()
	}
	err := b.alternate(places, []string{"/root/net", call, strconv.Itoa(callsPerPart)}, regexp.MustCompile(`([0-9]+)`), nil, func(p *place) string {
		return fmt.Sprintf("%8.2f µs", median(p.values)/1000)
	})
	if err != nil {
		return err
	}
	more := make([]float64, netRounds)
	for i := range more {
		more[i] = (places[0].values[i] - places[1].values[i]) / 1000
	}
	fmt.Printf("%-44s %8.2f µs\n", "the rule costs, paired", median(more))
	return nil
}

// up starts a container in a place and returns how to remove it.
func (b *bench) up(p *place, root string, args []string) (stop func(), err error) {
	p.id, p.values = fmt.Sprintf("bench-net-%s-%d-%d", p.runtime.name, os.Getpid(), time.Now().UnixNano()), nil
	p.cost = nil
	spec, err := testbundle.Spec(p.id, root, args...)
	if err != nil {
		return nil, err
	}
	spec.Mounts = slices.Insert(spec.Mounts, 0, testbundle.MountUsr())
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	if p.rule != "" {
		spec.Annotations = map[string]string{"io.sandlock.network.allow": p.rule}
	}
	dir := filepath.Join(b.dir, p.id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := testbundle.Write(dir, spec); err != nil {
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

// alternate runs a client in each place in turn, round after round, after one that does not count, and prints what it says.
func (b *bench) alternate(places []*place, client []string, result, count *regexp.Regexp, show func(*place) string) error {
	for round := -1; round < netRounds; round++ {
		// Whoever goes first in one round goes last in the next.
		order := slices.Clone(places)
		if round%2 != 0 {
			slices.Reverse(order)
		}
		for _, p := range order {
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
	for _, p := range places {
		fmt.Printf("%-44s %s", p.name, show(p))
		if p != places[0] {
			fmt.Printf("       the first to it %.3f (paired %.3f)", median(places[0].values)/median(p.values), median(ratios(places[0].values, p.values)))
		}
		fmt.Println()
	}
	return nil
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
