package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// deniedFile makes a bundle that holds /etc/denied, which its policy denies unless allowed, and in which the workload has a capability besides Docker's.
func deniedFile(t *testing.T, allowed bool, capability string, args ...string) *bundle {
	t.Helper()
	b := newBundle(t, args...)
	b.spec.Linux.Seccomp = nil
	addCapability(b, capability)
	writeFile(t, b.root, "etc/denied", "the secret", 0o644)
	if !allowed {
		b.annotate("io.sandlock.filesystem.deny", "/etc/denied")
	}
	return b
}

func addCapability(b *bundle, capability string) {
	sets := b.spec.Process.Capabilities
	for _, set := range []*[]string{&sets.Bounding, &sets.Effective, &sets.Permitted} {
		*set = append(*set, capability)
	}
}

// What is mounted over a denied path keeps lookups from it, not file handles, which need no lookup.
func TestDeniedFileByItsHandle(t *testing.T) {
	if !ours {
		t.Skip("policies are sandlock-runtime's alone")
	}
	r := newRuntime(t)
	const capability = "CAP_DAC_READ_SEARCH"
	if res := r.runBundle(t, deniedFile(t, true, capability, "/bin/guest", "handle", "/etc/denied")); !strings.Contains(res.stdout, "the secret") {
		t.Fatalf("the attack does not work on what is allowed: %v", res)
	}
	b := deniedFile(t, false, capability, "/bin/guest", "handle", "/etc/denied")
	if res := r.runBundle(t, b); strings.Contains(res.stdout, "secret") || res.stdout != "EPERM\n" {
		t.Errorf("%v", res)
	}
	assertNothingLeft(t, r, b)

	// The capability may come with an exec, too.
	allowed := r.start(t, deniedFile(t, true, "CAP_CHOWN", "/bin/sleep", "1000"))
	if res := r.run(t, "exec", "--cap", capability, allowed.id, "/bin/guest", "handle", "/etc/denied"); !strings.Contains(res.stdout, "the secret") {
		t.Fatalf("the attack by exec does not work on what is allowed: %v", res)
	}
	denied := r.start(t, deniedFile(t, false, "CAP_CHOWN", "/bin/sleep", "1000"))
	if res := r.run(t, "exec", "--cap", capability, denied.id, "/bin/guest", "handle", "/etc/denied"); res.stdout != "EPERM\n" {
		t.Errorf("exec: %v", res)
	}
}

// A volume is part of a file system of the host. A handle opened by way of the volume leads anywhere in there, and Landlock takes it for the volume's.
func TestFileBesideAVolumeByItsHandle(t *testing.T) {
	if !ours {
		t.Skip("policies are sandlock-runtime's alone")
	}
	outside := shortTempDir(t)
	volume := filepath.Join(outside, "volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("the secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(secret, &stat); err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t)
	attack := func(pairs ...string) result {
		b := newBundle(t, "/bin/guest", "handle", "/volume/", strconv.FormatUint(stat.Ino, 10))
		b.spec.Linux.Seccomp = nil
		addCapability(b, "CAP_DAC_READ_SEARCH")
		b.mount("/volume", "bind", volume, "rbind")
		b.annotate(pairs...)
		return r.runBundle(t, b)
	}
	if res := attack(); !strings.Contains(res.stdout, "the secret") {
		t.Fatalf("the attack does not work where the spec allows it: %v", res)
	}
	if res := attack("io.sandlock.filesystem.read", "/bin;/volume"); res.stdout != "EPERM\n" {
		t.Errorf("%v", res)
	}
}

// Whoever may unmount must not unmount what covers a denied path: neither the workload nor what is executed beside it.
func TestDeniedFileCannotBeUncovered(t *testing.T) {
	if !ours {
		t.Skip("policies are sandlock-runtime's alone")
	}
	const capability = "CAP_SYS_ADMIN"
	const uncover = "umount /etc/denied 2>/dev/null; umount -l /etc/denied 2>/dev/null; cat /etc/denied; ls -l /etc/denied | cut -c1-10"
	const covered = "----------\n" // an empty file of mode 000
	r := newRuntime(t)

	// Such a container mounts and unmounts where nothing is denied.
	twin := r.start(t, deniedFile(t, true, capability, "/bin/sleep", "1000"))
	if res := twin.shell(t, "mount -t tmpfs x /home && touch /home/x && umount /home && ls /home"); res.code != 0 || strings.Contains(res.stdout, "x\n") {
		t.Fatalf("without a denied path: %v", res)
	}
	b := deniedFile(t, false, capability, "/bin/sh", "-c", uncover)
	if res := r.runBundle(t, b); res.stdout != covered {
		t.Errorf("the workload: %v", res)
	}
	c := r.start(t, deniedFile(t, false, capability, "/bin/sleep", "1000"))
	if res := c.shell(t, uncover); res.stdout != covered {
		t.Errorf("exec: %v", res)
	}
	c = r.start(t, deniedFile(t, false, "CAP_CHOWN", "/bin/sleep", "1000"))
	if res := c.shell(t, uncover, "--cap", capability); res.stdout != covered {
		t.Errorf("exec that brings the capability: %v", res)
	}
}
