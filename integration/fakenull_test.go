package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// kmsg is a device that the device rules keep from the container: 1:11, the kernel's log.
const makeKmsg = "rm /dev/null; mknod /dev/null c 1 11; chmod 666 /dev/null; "

// Where the caller's standard streams are /dev/null, a process gets the container's. What a container puts there must not be opened for it: the runtime may open
// what the container may not.
func TestExecDoesNotOpenWhatHasTakenThePlaceOfNull(t *testing.T) {
	const look = "stat -L -c '%t:%T' /proc/self/fd/0"
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	if res := c.shell(t, look); res.stdout != "1:3\n" {
		t.Fatalf("with the container's own: %v", res)
	}
	if res := c.shell(t, makeKmsg+"cat /dev/null"); res.code == 0 {
		t.Fatalf("the container itself can open it: %v", res)
	}
	res := c.shell(t, look)
	if strings.Contains(res.stdout, "1:b") {
		t.Errorf("a device that the container may not open is the standard input: %v", res)
	}
	if ours {
		res.refused(t, "/dev/null")
	}
	c.shell(t, "true").refused(t, "/dev/null")
}

// CVE-2025-31133 and its like: an image whose /dev/null is a link has the runtime use what it points to, as standard streams or to mask paths with.
func TestImageWhoseNullIsALink(t *testing.T) {
	const masked = "/etc/masked"
	make := func(t *testing.T, target string) *bundle {
		b := script(t, "stat -c '%t:%T' "+masked+"; echo '|/evil' > "+masked+"; stat -L -c '%t:%T' /proc/self/fd/0")
		b.spec.Mounts = slices.DeleteFunc(b.spec.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/dev") })
		writeFile(t, b.root, masked, "to be hidden\n", 0o644)
		b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, masked)
		if target != "" {
			if err := os.MkdirAll(filepath.Join(b.root, "dev"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(b.root, "dev/null")); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	r := newRuntime(t)
	if res := r.runBundle(t, make(t, "")); res.stdout != "1:3\n1:3\n" {
		t.Fatalf("without a link: %v", res)
	}
	const file = "/proc/sys/kernel/core_pattern"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := make(t, file)
	res := r.runBundle(t, b)
	if strings.Contains(res.stdout, "0:0") {
		t.Errorf("the link has been followed: %v", res)
	}
	after, err := os.ReadFile(file)
	if err != nil || string(after) != string(before) {
		t.Errorf("%s: %q has become %q (%v)", file, before, after, err)
		if err := os.WriteFile(file, before, 0); err != nil {
			t.Error(err)
		}
	}
	assertNothingLeft(t, r, b)
	// What masks does not come from the image, so that a container with streams of its own runs, and has the path masked.
	b = make(t, file)
	b.write(t)
	cmd := r.command(t.Context(), "run", "--bundle", b.dir, b.id)
	cmd.Stdin = strings.NewReader("")
	if res := finish(t, cmd); ours && !strings.HasPrefix(res.stdout, "1:3\n") {
		t.Errorf("the masked path: %v", res)
	}
}
