package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	// ordinary is a user and a group that no system gives to anybody.
	ordinary = 51234
	// The ranges of ids that are given to that user, where the test gives any.
	subordinate, subordinates = 5200000, 65536
)

// become runs the command behind it as the ordinary user. The files that name users and their ranges are this process's own, in a mount namespace that
// ends with it.
const become = `set -e
etc=$1; shift
for file in "$etc"/*; do mount --bind "$file" "/etc/${file##*/}"; done
exec setpriv --reuid 51234 --regid 51234 --clear-groups --inh-caps=-all -- "$@"`

// user is the ordinary user, who has a home with a bundle in it.
type user struct {
	*bundle
	path string // of the runtime
	home string
	etc  string
}

// newUser makes the bundle that `spec --rootless` gives, with args. With ranges the user has the subordinate ids.
func newUser(t *testing.T, ranges bool, args ...string) *user {
	t.Helper()
	u := &user{bundle: newBundle(t, args...)}
	u.home, u.etc = filepath.Join(u.dir, "home"), filepath.Join(u.dir, "etc")
	for _, dir := range []string{u.home, u.etc, filepath.Join(u.home, "run")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Wherever the runtime under test is, the user may not be able to walk there.
	u.path = filepath.Join(u.dir, "runtime")
	program, err := os.ReadFile(runtimePath)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, u.dir, "runtime", string(program), 0o755)
	for _, file := range []struct{ name, entry string }{
		{"passwd", fmt.Sprintf("ordinary:x:%d:%d::%s:/bin/sh\n", ordinary, ordinary, u.home)},
		{"group", fmt.Sprintf("ordinary:x:%d:\n", ordinary)},
	} {
		content, err := os.ReadFile("/etc/" + file.name)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, u.etc, file.name, string(content)+file.entry, 0o644)
	}
	entry := ""
	if ranges {
		entry = fmt.Sprintf("ordinary:%d:%d\n", subordinate, subordinates)
	}
	for _, name := range []string{"subuid", "subgid"} {
		if _, err := os.Stat("/etc/" + name); err != nil {
			t.Fatalf("package uidmap: %v", err)
		}
		writeFile(t, u.etc, name, entry, 0o644)
	}
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", ordinary, ordinary), u.home, u.root).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v: %s", err, out)
	}
	if res := u.run(t, "spec", "--rootless", "--bundle", u.home); res.code != 0 {
		t.Fatal(res)
	}
	content, err := os.ReadFile(filepath.Join(u.home, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	u.spec = new(specs.Spec)
	if err := json.Unmarshal(content, u.spec); err != nil {
		t.Fatal(err)
	}
	u.spec.Process.Terminal, u.spec.Process.Args, u.spec.Root.Path = false, args, u.root
	if ranges {
		u.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: ordinary, Size: 1}, {ContainerID: 1, HostID: subordinate, Size: subordinates}}
		u.spec.Linux.GIDMappings = u.spec.Linux.UIDMappings
	}
	t.Cleanup(func() {
		if res := u.run(t, "delete", "--force", u.id); res.code != 0 {
			t.Errorf("delete --force: %v", res)
		}
		assertNothingLeft(t, &ociRuntime{root: filepath.Join(u.home, "run", "sandlock")}, u.bundle)
	})
	return u
}

// command prepares a command of the runtime.
func (u *user) command(ctx context.Context, args ...string) *exec.Cmd {
	return u.as(ctx, append([]string{u.path}, args...)...)
}

// as prepares any command.
func (u *user) as(ctx context.Context, args ...string) *exec.Cmd {
	all := append([]string{"--mount", "--propagation", "slave", "sh", "-c", become, "sh", u.etc}, args...)
	cmd := exec.CommandContext(ctx, "unshare", all...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + u.home, "XDG_RUNTIME_DIR=" + filepath.Join(u.home, "run")}
	return cmd
}

func (u *user) run(t testing.TB, args ...string) result {
	t.Helper()
	return finishInTime(t, u.command, args...)
}

func (u *user) write(t testing.TB) {
	t.Helper()
	content, err := json.Marshal(u.spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(u.home, "config.json"), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (u *user) runBundle(t testing.TB, flags ...string) result {
	t.Helper()
	u.write(t)
	return u.run(t, append(append([]string{"run", "--bundle", u.home}, flags...), u.id)...)
}

func TestOwnRootlessRun(t *testing.T) {
	u := newUser(t, false, "/bin/sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /tmp/mine; exit 7")
	u.spec.Root.Readonly = false
	res := u.runBundle(t)
	if got := strings.Fields(res.stdout); res.code != 7 || strings.Join(got, " ") != "0 0 "+strconv.Itoa(ordinary)+" 1 deny" {
		t.Errorf("run: %v", res)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(u.root, "tmp/mine"), &st); err != nil || st.Uid != ordinary {
		t.Errorf("the container's root is not the user: %v, uid %d", err, st.Uid)
	}
}

func TestOwnRootlessRanges(t *testing.T) {
	u := newUser(t, true, "/bin/sh", "-c", "id -u; id -G; cat /proc/self/uid_map /proc/self/setgroups; touch /tmp/theirs")
	u.spec.Root.Readonly = false
	u.spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}}
	if err := os.Chmod(filepath.Join(u.root, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
	res := u.runBundle(t)
	want := fmt.Sprintf("1000 1001 5 6 0 %d 1 1 %d %d allow", ordinary, subordinate, subordinates)
	if got := strings.Join(strings.Fields(res.stdout), " "); res.code != 0 || got != want {
		t.Errorf("got %q, want %q: %v", got, want, res)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(u.root, "tmp/theirs"), &st); err != nil || st.Uid != subordinate+999 {
		t.Errorf("the container's user 1000: %v, uid %d", err, st.Uid)
	}
}

func TestOwnRootlessRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		ranges bool
		change func(*specs.Spec)
		want   string
	}{
		{"a range that is others'", true, func(s *specs.Spec) { s.Linux.UIDMappings[1].HostID += subordinates }, "linux.uidMappings: newuidmap: uid range"},
		{"a group's range that is others'", true, func(s *specs.Spec) {
			s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: subordinate + 1, Size: subordinates}}
		}, "linux.gidMappings: newgidmap: gid range"},
		{"no range", false, func(s *specs.Spec) {
			s.Linux.UIDMappings = append(s.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: subordinate, Size: 1})
		}, "linux.uidMappings: newuidmap: uid range"},
		{"the host's root", false, func(s *specs.Spec) { s.Linux.UIDMappings[0].HostID = 0 }, "linux.uidMappings: newuidmap: uid range"},
		{"groups without a range", false, func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{0} }, "process.user.additionalGids"},
		{"a limit of memory", false, func(s *specs.Spec) {
			limit := int64(1 << 26)
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		}, "linux.resources.memory"},
		{"no user namespace", false, func(s *specs.Spec) {
			s.Linux.Namespaces, s.Linux.UIDMappings, s.Linux.GIDMappings = s.Linux.Namespaces[:4], nil, nil
		}, "operation not permitted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUser(t, c.ranges, "/bin/true")
			if res := u.runBundle(t); res.code != 0 {
				t.Fatalf("before the change: %v", res)
			}
			c.change(u.spec)
			res := u.runBundle(t)
			if res.code == 0 || !strings.Contains(res.stderr, c.want) || strings.Count(strings.TrimSpace(res.stderr), "\n") != 0 {
				t.Errorf("want one line with %q: %v", c.want, res)
			}
		})
	}
}

func TestOwnRootlessLife(t *testing.T) {
	u := newUser(t, true, "/bin/sleep", "100")
	u.write(t)
	must := func(want string, args ...string) {
		t.Helper()
		if res := u.run(t, args...); res.code != 0 || !strings.Contains(res.stdout, want) {
			t.Errorf("%q: want %q: %v", args, want, res)
		}
	}
	pidFile := filepath.Join(u.home, "pid")
	must("", "create", "--bundle", u.home, "--pid-file", pidFile, u.id)
	adopt(readPid(t, pidFile))
	must(`"status": "created"`, "state", u.id)
	must("", "start", u.id)
	must("running", "list")
	must("sleep 100", "ps", u.id)
	must("uid=0", "exec", u.id, "id")
	must("groups=7", "exec", "--user", "1000:1000", "--additional-gids", "7", u.id, "id")
	if res := u.run(t, "exec", u.id, "sh", "-c", "exit 9"); res.code != 9 {
		t.Errorf("exec: %v", res)
	}
	must("", "exec", "--detach", "--user", "1000", u.id, "sleep", "200")
	must("sleep 200", "ps", u.id)
	for _, args := range [][]string{{"pause", u.id}, {"update", "--memory", "100000000", u.id}} {
		if res := u.run(t, args...); res.code == 0 || !strings.Contains(res.stderr, "no cgroup") {
			t.Errorf("%q: %v", args, res)
		}
	}
	must("", "kill", u.id, "KILL")
	eventually(t, "the container stops", func() bool {
		reapOrphans()
		return strings.Contains(u.run(t, "state", u.id).stdout, "stopped")
	})
	must("", "delete", u.id)
	if res := u.run(t, "state", u.id); res.code == 0 || !strings.Contains(res.stderr, "does not exist") {
		t.Errorf("state: %v", res)
	}
}

// Where nobody can have additional groups, whoever asks for one is told, and gets none of the process without.
func TestOwnRootlessGroups(t *testing.T) {
	u := newUser(t, false, "/bin/sleep", "100")
	if res := u.runBundle(t, "--detach"); res.code != 0 {
		t.Fatal(res)
	}
	process := func(groups ...uint32) string {
		content, err := json.Marshal(specs.Process{Args: []string{"id", "-G"}, Cwd: "/", Env: []string{"PATH=/bin"}, User: specs.User{AdditionalGids: groups}})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("process-%d.json", len(groups))
		writeFile(t, u.home, name, string(content), 0o644)
		return filepath.Join(u.home, name)
	}
	if res := u.run(t, "exec", u.id, "id", "-u"); res.code != 0 || res.stdout != "0\n" {
		t.Errorf("without groups: %v", res)
	}
	res := u.run(t, "exec", "--additional-gids", "7", u.id, "id", "-G")
	if res.refused(t, "process.user.additionalGids", "/etc/subgid"); res.stdout != "" || res.code != 255 {
		t.Errorf("with one: %v", res)
	}
	if res := u.run(t, "exec", "--process", process(), u.id); res.code != 0 {
		t.Errorf("a process from a file: %v", res)
	}
	res = u.run(t, "exec", "--process", process(7), u.id)
	if res.refused(t, "process.user.additionalGids"); res.stdout != "" {
		t.Errorf("a process from a file: %v", res)
	}
}

func TestOwnRootlessTerminal(t *testing.T) {
	u := newUser(t, false, "/bin/sh", "-c", "tty; read line; echo got $line; exit 3")
	u.spec.Process.Terminal = true
	u.write(t)
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if out, code := onTerminal(t, u.command(ctx, "run", "--bundle", u.home, u.id), "word\n"); code != 3 || !strings.Contains(out, "/dev/pts/0") && !strings.Contains(out, "/dev/console") || !strings.Contains(out, "got word") {
		t.Errorf("run: exit code %d: %q", code, out)
	}
	u.spec.Process.Terminal, u.spec.Process.Args = false, []string{"/bin/sleep", "100"}
	if res := u.runBundle(t, "--detach"); res.code != 0 {
		t.Fatal(res)
	}
	if out, code := onTerminal(t, u.command(ctx, "exec", "--tty", u.id, "sh", "-c", "tty; read line; echo got $line; exit 4"), "word\n"); code != 4 || !strings.Contains(out, "/dev/pts/0") || !strings.Contains(out, "got word") {
		t.Errorf("exec: exit code %d: %q", code, out)
	}
}

const greeting = "hello from the host"

// greeter is the address of a server on the host's loopback device that greets whoever connects.
func greeter(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, greeting)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// The rules are enforced where the monitor is an ordinary user's, too, with and without no_new_privs, and for exec.
func TestOwnRootlessPolicy(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprintf("noNewPrivileges %v", kept), func(t *testing.T) {
			// The network is the host's: whoever is no root gets no other by themselves.
			allowed, denied := greeter(t), greeter(t)
			u := newUser(t, false, "/bin/sh", "-c", "exec sleep 100")
			u.spec.Process.NoNewPrivileges = kept
			u.spec.Root.Readonly = false
			u.annotate("io.sandlock.network.allow", allowed, "io.sandlock.filesystem.write", "/tmp", "io.sandlock.filesystem.read", "/", "io.sandlock.filesystem.deny", "/etc/secret")
			writeFile(t, u.root, "etc/secret", "secret", 0o644)
			writeFile(t, u.root, "etc/open", "open", 0o644)
			if res := u.runBundle(t, "--detach"); res.code != 0 {
				t.Fatal(res)
			}
			for _, c := range []struct{ script, want string }{
				{"guest network connect tcp " + allowed, greeting},
				{"guest network connect tcp " + denied, "EACCES"},
				{"cat /etc/open", "open"},
				{"cat /etc/secret 2>&1", "denied"},
				{"touch /tmp/a && echo made", "made"},
				{"touch /bin/a 2>&1", "denied"},
			} {
				if res := u.run(t, "exec", u.id, "sh", "-c", c.script); !strings.Contains(res.stdout, c.want) {
					t.Errorf("%s: want %q: %v", c.script, c.want, res)
				}
			}
		})
	}
}

// The workload of a supervised container goes with its monitor, whatever users are in it.
func TestOwnRootlessMonitorKilled(t *testing.T) {
	u := newUser(t, true, "/bin/sleep", "100")
	u.spec.Process.User = specs.User{UID: 1000, GID: 1000}
	u.annotate("io.sandlock.network.allow", "127.0.0.1/32:7000")
	pidFile := filepath.Join(u.home, "pid")
	if res := u.runBundle(t, "--detach", "--pid-file", pidFile); res.code != 0 {
		t.Fatal(res)
	}
	pid := readPid(t, pidFile)
	r := &ociRuntime{path: runtimePath, root: filepath.Join(u.home, "run", "sandlock")}
	if err := unix.Kill(r.monitorPid(t, u.id), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(commandTimeout)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatal("the workload lives on")
		}
		reapOrphans()
		pause()
	}
}
