package main

import (
	_ "embed"
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
	netRounds    = 15
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
}

// server is a program with the client that loads it, both in one container.
type server struct {
	name   string
	args   []string
	client []string
	result *regexp.Regexp // finds requests a second in what the client prints
}

var redis = server{
	"redis-benchmark, GET, 50 connections",
	[]string{"redis-server", "--port", "6379", "--save", "", "--daemonize", "no", "--logfile", "/dev/null"},
	[]string{"redis-benchmark", "-q", "-t", "get", "-c", "50", "-n", "100000"},
	regexp.MustCompile(`GET: ([0-9.]+) requests per second`),
}

const nginxConfig = `daemon off; user root; worker_processes 1; pid /tmp/nginx.pid; error_log /dev/null;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
sendfile on; tcp_nopush on; keepalive_requests 100000000; server { listen 127.0.0.1:8080; root /var/www; } }
`

var nginx = server{
	"nginx and wrk, 612 bytes, 32 connections",
	[]string{"nginx", "-c", "/etc/nginx.conf"},
	[]string{"wrk", "-t", "1", "-c", "32", "-d", "2s", "http://127.0.0.1:8080/"},
	regexp.MustCompile(`Requests/sec: +([0-9.]+)`),
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
	return b.alternate(places, s.client, s.result, func(p *place) string {
		return fmt.Sprintf("%10.0f /s", median(p.values))
	})
}

// calls times one system call in each place.
func (b *bench) calls(call, root string, places []*place) error {
	title("net: %s, allowed, %d rounds of %d", call, netRounds, callsPerPart)
	for _, p := range places {
		stop, err := b.up(p, root, []string{"sleep", "1000"})
		if err != nil {
			return err
		}
		defer stop()
	}
	err := b.alternate(places, []string{"/root/net", call, strconv.Itoa(callsPerPart)}, regexp.MustCompile(`([0-9]+)`), func(p *place) string {
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
func (b *bench) alternate(places []*place, client []string, result *regexp.Regexp, show func(*place) string) error {
	for round := -1; round < netRounds; round++ {
		// Whoever goes first in one round goes last in the next.
		order := slices.Clone(places)
		if round%2 != 0 {
			slices.Reverse(order)
		}
		for _, p := range order {
			value, err := b.measureIn(p, client, result)
			if err != nil {
				return err
			}
			if round >= 0 {
				p.values = append(p.values, value)
			}
		}
	}
	for _, p := range places {
		fmt.Printf("%-44s %s", p.name, show(p))
		if p != places[0] {
			ratios := make([]float64, netRounds)
			for i := range ratios {
				ratios[i] = places[0].values[i] / p.values[i]
			}
			fmt.Printf("       the first to it %.3f (paired %.3f)", median(places[0].values)/median(p.values), median(ratios))
		}
		fmt.Println()
	}
	return nil
}

// measureIn runs a client in a place, once its server answers.
func (b *bench) measureIn(p *place, client []string, result *regexp.Regexp) (float64, error) {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); ; {
		out, err := os.CreateTemp(b.dir, "out")
		if err != nil {
			return 0, err
		}
		err = p.runtime.do(out, append([]string{"exec", p.id}, client...)...)
		out.Close()
		text, readErr := os.ReadFile(out.Name())
		if readErr != nil {
			return 0, readErr
		}
		if err := os.Remove(out.Name()); err != nil {
			return 0, err
		}
		if found := result.FindSubmatch(text); found != nil && err == nil {
			return strconv.ParseFloat(string(found[1]), 64)
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("the client said %q: %w", text, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
