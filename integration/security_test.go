package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// CVE-2019-5736: a process inside that waits for the runtime to enter must not get a writable handle to its binary,
// be it at create or at exec.
func TestTheRuntimesBinaryCannotBeOverwritten(t *testing.T) {
	before, err := os.ReadFile(runtimePath)
	if err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t)
	b := newBundle(t, "/bin/guest", "overwrite")
	b.spec.Process.Capabilities.Bounding = append(b.spec.Process.Capabilities.Bounding, "CAP_SYS_PTRACE")
	b.spec.Process.Capabilities.Effective = append(b.spec.Process.Capabilities.Effective, "CAP_SYS_PTRACE")
	b.spec.Process.Capabilities.Permitted = append(b.spec.Process.Capabilities.Permitted, "CAP_SYS_PTRACE")
	c := r.start(t, b)
	if line := c.line(t); line != "watching" {
		t.Fatalf("output %q", line)
	}
	for range 10 {
		r.must(t, "exec", c.id, "/bin/true")
		// The attack's other half: the workload that is asked for is the runtime itself, by way of a link.
		r.run(t, "exec", c.id, "/proc/self/exe", "--version")
	}
	writeFile(t, b.root, "stop", "", 0o644)
	if line := c.line(t); line != "nothing was writable" {
		t.Errorf("from inside: %s", line)
	}
	c.wait(t)
	after, err := os.ReadFile(runtimePath)
	if err != nil || string(after) != string(before) {
		t.Errorf("the runtime's binary has changed (%v)", err)
	}
}

// The container's own link to the runtime: an image whose binary is /proc/self/exe must not run the host's runtime.
func TestProcSelfExeIsNotTheRuntime(t *testing.T) {
	r := newRuntime(t)
	b := newBundle(t, "/proc/self/exe", "--version")
	res := r.runBundle(t, b)
	if version := r.must(t, "--version"); res.code == 0 && res.stdout == version && ours {
		t.Errorf("the container ran the runtime: %v", res)
	}
}

// CVE-2024-21626: no descriptor or working directory may lead to the host.
func TestNoHostDirectoryLeaks(t *testing.T) {
	marker := filepath.Join(shortTempDir(t), "marker")
	if err := os.WriteFile(marker, []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t)
	for fd := 3; fd < 20; fd++ {
		cwd := "/proc/self/fd/" + string(rune('0'+fd%10))
		if fd >= 10 {
			cwd = "/proc/self/fd/1" + string(rune('0'+fd%10))
		}
		b := script(t, "cat ../../../../../../../../.."+marker+" ./"+marker+" 2>/dev/null; true")
		b.spec.Process.Cwd = cwd
		b.write(t)
		cmd := r.command(context.Background(), "run", "--bundle", b.dir, b.id)
		cmd.Dir = "/"
		if res := finish(t, cmd); strings.Contains(res.stdout, "host") {
			t.Fatalf("cwd %s leads to the host: %v", cwd, res)
		}
	}
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	for _, fd := range []string{"3", "4", "5", "6", "7", "8", "9", "10"} {
		res := c.shell(t, "cat ../../../../../../../../.."+marker+" 2>/dev/null; true", "--cwd", "/proc/self/fd/"+fd)
		if strings.Contains(res.stdout, "host") {
			t.Fatalf("exec --cwd /proc/self/fd/%s leads to the host: %v", fd, res)
		}
	}
}

// Descriptors that the caller left open, close-on-exec or not, do not reach the workload.
func TestTheCallersDescriptorsDoNotLeak(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "ls /proc/$$/fd; true")
	b.write(t)
	cmd := r.command(context.Background(), "run", "--bundle", b.dir, b.id)
	for range 5 {
		f, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if res := finish(t, cmd); res.stdout != "0\n1\n2\n" {
		t.Errorf("open in the container: %v", res)
	}
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	enter := r.command(context.Background(), "exec", c.id, "/bin/sh", "-c", "ls /proc/$$/fd; true")
	enter.ExtraFiles = cmd.ExtraFiles
	if res := finish(t, enter); res.stdout != "0\n1\n2\n" {
		t.Errorf("open in the exec: %v", res)
	}
}

// CVE-2019-16884 and its like: a /proc that is not a proc must not be taken for one.
func TestProcThatIsALinkIsRefused(t *testing.T) {
	r := newRuntime(t)
	b := script(t, "echo ran")
	proc := filepath.Join(b.root, "proc")
	if err := os.Remove(proc); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/tmp", proc); err != nil {
		t.Fatal(err)
	}
	res := r.runBundle(t, b)
	res.refused(t, "/proc")
	if strings.Contains(res.stdout, "ran") {
		t.Error("the workload ran")
	}
	assertNothingLeft(t, r, b)
}

// The root of the host cannot be had back after the pivot, whatever the capabilities.
func TestTheOldRootIsGone(t *testing.T) {
	marker := filepath.Join(shortTempDir(t), "marker")
	if err := os.WriteFile(marker, []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	probeAll(t, []probe{{
		name: "chroot escape",
		change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Seccomp = nil
			caps := b.spec.Process.Capabilities
			for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
				*set = append(*set, "CAP_SYS_ADMIN", "CAP_SYS_CHROOT")
			}
		},
		script: "grep -q ' " + filepath.Dir(marker) + " ' /proc/1/mountinfo || echo not mounted; umount -l / 2>/dev/null; mkdir -p /tmp/x; chroot /tmp/x true 2>/dev/null; cat ../../../.." + marker + " 2>/dev/null || echo gone",
		want:   "not mounted\ngone\n",
	}})
}

// What the runtime keeps of a container is for root alone.
func TestStateIsForItsOwnerAlone(t *testing.T) {
	r := newRuntime(t)
	c := r.start(t, newBundle(t, "/bin/sleep", "1000"))
	dir := filepath.Join(r.root, c.id)
	cmd := exec.Command("cat", filepath.Join(dir, "state.json"))
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: credential(65534)}
	if res := finish(t, cmd); res.code == 0 {
		t.Errorf("another user reads the state: %s", res.stdout)
	}
}

// Whoever can change the root while a container starts, as one that shares it can, must not have a mount point made, or a file mounted, outside.
func TestMountPointThatBecomesALink(t *testing.T) {
	outside := shortTempDir(t)
	r := newRuntime(t)
	b := script(t, "true")
	place, link := filepath.Join(b.root, "place"), filepath.Join(b.root, "link")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	b.mount("/place/made/dir", "tmpfs", "tmpfs")
	b.mount("/place/made/file", "bind", filepath.Join(hostDir(t), "file"), "rbind")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, place, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) // as often as it will go
			}
		}
	}()
	started := 0
	for range 20 {
		if res := r.runBundle(t, b); res.code == 0 {
			started++
		}
	}
	close(stop)
	<-done
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("made outside of the root: %v, %v", entries, err)
	}
	if started == 0 {
		t.Error("no container has started: nothing has been tried")
	}
	assertNothingLeft(t, r, b)
}
