// Command demo shows what sandlock-runtime is for: the same commands run in a container without a policy and in one with
// a policy, with two servers beside them, first by the runtime's own command line and then through Docker. It fails
// unless the policy denied exactly what it was to deny and allowed the rest.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
)

func main() {
	path := "bin/sandlock-runtime"
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	if err := run(path); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Println("\nEverything that was to be denied was denied, and everything that was to be allowed was allowed.")
}

func run(runtimePath string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("containers are started as root: run this as root, or with sudo")
	}
	runtimePath, err := filepath.Abs(runtimePath)
	if err != nil {
		return err
	}
	if _, err := os.Stat(runtimePath); err != nil {
		return fmt.Errorf("%w (run 'make build' first)", err)
	}
	dir, err := os.MkdirTemp("", "sl-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "rootfs")
	if err := makeRoot(root); err != nil {
		return err
	}
	if err := byHand(runtimePath, dir, root); err != nil {
		return err
	}
	return throughDocker(runtimePath, filepath.Join(dir, "d"), root)
}

// makeRoot makes a busybox root with something to protect in it.
func makeRoot(root string) error {
	if err := testbundle.Busybox(root); err != nil {
		return err
	}
	for name, text := range map[string]string{"secrets/key": "a private key\n", "data/readme": "data to work on\n"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// step is one thing a container tries.
type step struct {
	command string
	denied  bool // what the policy is to say
}

// script makes a shell script of the steps that prints yes or no for each, and why not on stderr.
func script(steps []step) string {
	var text strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&text, "if %s >/dev/null 2>/tmp/why; then echo yes; else echo no: $(tail -n 1 /tmp/why); fi\n", s.command)
	}
	return text.String()
}

// report prints what became of each step without a policy and with one, and fails if that is not as it should be.
func report(steps []step, free, confined string) error {
	without, with := strings.Split(strings.TrimSpace(free), "\n"), strings.Split(strings.TrimSpace(confined), "\n")
	if len(without) != len(steps) || len(with) != len(steps) {
		return fmt.Errorf("the containers were to make %d attempts, and told of %d and %d: %q, %q", len(steps), len(without), len(with), free, confined)
	}
	fmt.Printf("\n    %-52s %-12s %s\n", "what the container tries", "no policy", "with the policy")
	wrong := 0
	for i, s := range steps {
		verdict := "allowed"
		if with[i] != "yes" {
			verdict = "DENIED  " + strings.TrimPrefix(with[i], "no: ")
		}
		if without[i] != "yes" || (with[i] != "yes") != s.denied {
			verdict += "   <-- not as it should be"
			wrong++
		}
		before := "works"
		if without[i] != "yes" {
			before = "fails"
		}
		fmt.Printf("    %-52s %-12s %s\n", s.command, before, verdict)
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d attempts did not end as they should", wrong, len(steps))
	}
	return nil
}
