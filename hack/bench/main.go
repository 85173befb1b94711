// Command bench compares the runtime with runc and crun on this machine: what starting a Docker-like container costs,
// what its whole life costs, in time (lifecycle) and in processor time (cpu), how much memory an idle monitor takes and 300 idle containers
// do (idle), and what a denied call costs beside the barest
// supervisor there can be: with the library alone (notify), and a connect in a container (connect); and what servers and calls lose to an address
// rule (net). Runs are interleaved, medians are compared, and nothing is asserted.
//
//	go run ./hack/bench [-n ROUNDS] [-runtime PATH] [start|lifecycle|cpu|monitor|idle|notify|connect|net|all]
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

func main() {
	rounds := flag.Int("n", 60, "rounds of each measurement")
	path := flag.String("runtime", "bin/sandlock-runtime", "the runtime to measure")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: bench [flags] [start|lifecycle|cpu|monitor|idle|notify|connect|net|all]\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	what := "all"
	if flag.NArg() > 0 {
		what = flag.Arg(0)
	}
	if err := run(what, *path, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measurement is one of the things that can be measured.
type measurement struct {
	name string
	run  func(*bench) error
}

var measurements = []measurement{
	{"start", (*bench).start},
	{"lifecycle", (*bench).lifecycle},
	{"cpu", (*bench).cpu},
	{"monitor", (*bench).monitor},
	{"idle", (*bench).idle},
	{"notify", (*bench).notify},
	{"connect", (*bench).connect},
	{"net", (*bench).net},
}

func run(what, path string, rounds int) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("containers are started as root")
	}
	b, err := newBench(path, rounds)
	if err != nil {
		return err
	}
	defer b.close()
	known := false
	for _, m := range measurements {
		if what == m.name || what == "all" {
			known = true
			if err := m.run(b); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	if !known {
		return fmt.Errorf("nothing called %q can be measured", what)
	}
	return nil
}

// bench is a directory with a root and state directories, and the runtimes to compare.
type bench struct {
	dir      string
	root     string
	rounds   int
	ours     *candidate
	runtimes []*candidate
}

// onTmpfs is where the bundle and the state directories go: on a tmpfs, as /run is on most machines, if there is one.
func onTmpfs() string {
	for _, dir := range []string{"/run", "/dev/shm"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.TMPFS_MAGIC {
			return dir
		}
	}
	return ""
}

func newBench(path string, rounds int) (*bench, error) {
	// So that the processes of created containers are inherited here, and reaped, as containerd's shim does.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	dir, err := os.MkdirTemp(onTmpfs(), "sl-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, root: filepath.Join(dir, "rootfs"), rounds: rounds}
	if err := testbundle.Busybox(b.root); err != nil {
		return nil, err
	}
	if b.ours, err = newCandidate(path, dir, ""); err != nil {
		return nil, err
	}
	b.runtimes = []*candidate{b.ours}
	for _, other := range []struct{ name, hidden string }{{"runc", ""}, {"crun", "/sys/fs/cgroup/unified"}} {
		c, err := newCandidate(other.name, dir, other.hidden)
		if err != nil {
			return nil, err
		}
		b.runtimes = append(b.runtimes, c)
	}
	return b, nil
}

func (b *bench) close() {
	for _, c := range b.runtimes {
		c.close()
	}
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// bundle writes a bundle named id that runs args under the annotations, and returns its directory.
func (b *bench) bundle(id string, annotations map[string]string, args ...string) (string, error) {
	spec, err := testbundle.Spec(id, b.root, args...)
	if err != nil {
		return "", err
	}
	spec.Annotations = annotations
	dir := filepath.Join(b.dir, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, testbundle.Write(dir, spec)
}

func title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Printf("\n%s\n%s\n", text, strings.Repeat("-", len(text)))
}
