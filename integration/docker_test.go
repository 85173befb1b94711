package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/integration/dockerd"
)

const (
	testImage = "sandlock-test/busybox"
	// testRuntime is the name under which the runtime under test is registered, without a flag of its own.
	testRuntime = "undertest"
	// agentRuntime is the runtime under test with a profile, and only registered when it is ours.
	agentRuntime = "agent"
)

// docker is a dockerd of the test's own and the runtime that a case is to use with it.
type docker struct {
	*dockerd.Daemon
	runtime string
}

// A case behaves the same whichever runtime it is run with; runc is the control that it is right about Docker.
var dockerCases = []struct {
	name string
	test func(*testing.T, *docker)
}{
	{"run", dockerRun},
	{"exit codes", dockerExitCodes},
	{"detached, logs, wait", dockerDetached},
	{"exec", dockerExec},
	{"exec -it", dockerExecTerminal},
	{"run -it", dockerRunTerminal},
	{"attached stdin", dockerStdin},
	{"published port", dockerPublishedPort},
	{"user network", dockerUserNetwork},
	{"volumes", dockerVolumes},
	{"read-only and tmpfs", dockerReadOnly},
	{"user", dockerUser},
	{"cap-drop", dockerCapDrop},
	{"memory", dockerMemory},
	{"pids-limit", dockerPidsLimit},
	{"ulimit and sysctl", dockerUlimit},
	{"pause", dockerPause},
	{"stop", dockerStop},
	{"restart", dockerRestart},
	{"kill", dockerKill},
	{"top", dockerTop},
	{"stats", dockerStats},
	{"cp", dockerCopy},
	{"init", dockerInit},
	{"network host and none", dockerNetworkModes},
	{"no-new-privileges", dockerNoNewPrivileges},
	{"missing binary", dockerMissingBinary},
}

func TestDocker(t *testing.T) {
	daemon := startDocker(t)
	for _, name := range []string{"runc", testRuntime} {
		t.Run(name, func(t *testing.T) {
			for _, c := range dockerCases {
				t.Run(c.name, func(t *testing.T) { c.test(t, &docker{Daemon: daemon, runtime: name}) })
			}
		})
	}
	if ours {
		t.Run(agentRuntime, func(t *testing.T) {
			t.Run("policy by profile", func(t *testing.T) { dockerProfile(t, &docker{Daemon: daemon, runtime: agentRuntime}) })
			t.Run("programs by profile", func(t *testing.T) { dockerProfilePrograms(t, &docker{Daemon: daemon, runtime: agentRuntime}) })
			t.Run("names by profile", func(t *testing.T) { dockerProfileNames(t, &docker{Daemon: daemon, runtime: agentRuntime}) })
			t.Run("files by profile", func(t *testing.T) { dockerProfileFiles(t, &docker{Daemon: daemon, runtime: agentRuntime}) })
		})
	}
}

func startDocker(t *testing.T) *dockerd.Daemon {
	t.Helper()
	dir := shortTempDir(t)
	runtimes := map[string]dockerd.Runtime{testRuntime: {Path: runtimePath}}
	if ours {
		runtimes[agentRuntime] = dockerd.Runtime{Path: runtimePath, Args: agentArgs(t)}
	}
	daemon, err := dockerd.Start(dir, runtimes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of dockerd's log:\n%s", daemon.LogTail(30))
		}
		if err := daemon.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := daemon.Import(templateRoot, testImage); err != nil {
		t.Fatal(err)
	}
	return daemon
}

// run runs one docker command to its end.
func (d *docker) run(t testing.TB, args ...string) result {
	t.Helper()
	return finishInTime(t, d.Command, args...)
}

func (d *docker) must(t testing.TB, args ...string) string {
	t.Helper()
	res := d.run(t, args...)
	if res.code != 0 {
		t.Fatalf("docker %q: %v", args, res)
	}
	return res.stdout
}

// once runs `docker run --rm` with flags and a shell script.
func (d *docker) once(t testing.TB, text string, flags ...string) result {
	t.Helper()
	args := append([]string{"run", "--rm", "--runtime", d.runtime}, flags...)
	return d.run(t, append(args, testImage, "/bin/sh", "-c", text)...)
}

// start runs a container in the background that is removed at the end of the test, and returns its name.
func (d *docker) start(t testing.TB, text string, flags ...string) string {
	t.Helper()
	name := "c-" + strings.ToLower(rand.Text()[:10])
	args := append([]string{"run", "--detach", "--name", name, "--runtime", d.runtime}, flags...)
	d.must(t, append(args, testImage, "/bin/sh", "-c", text)...)
	t.Cleanup(func() { d.must(t, "rm", "--force", "--volumes", name) })
	return name
}

// expect fails the test unless the result is a success with this output.
func (res result) expect(t testing.TB, want string) {
	t.Helper()
	if res.code != 0 || res.stdout != want {
		t.Errorf("want %q, got %v", want, res)
	}
}

func dockerRun(t *testing.T, d *docker) {
	d.once(t, "echo out; echo err >&2; id -u; pwd; hostname", "--hostname", "named").expect(t, "out\n0\n/\nnamed\n")
	d.once(t, "echo $A; pwd", "--env", "A=b", "--workdir", "/home/user").expect(t, "b\n/home/user\n")
	d.once(t, "cat /etc/hostname; grep -c localhost /etc/hosts; test -s /etc/resolv.conf && echo resolv", "--hostname", "named").expect(t, "named\n2\nresolv\n")
	d.once(t, "grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status").expect(t, "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n")
}

func dockerExitCodes(t *testing.T, d *docker) {
	for text, want := range map[string]int{"exit 0": 0, "exit 3": 3, "sh -c 'kill -9 $$'; exit $?": 137} {
		if res := d.once(t, text); res.code != want {
			t.Errorf("%s: want %d, got %v", text, want, res)
		}
	}
}

func dockerDetached(t *testing.T, d *docker) {
	name := d.start(t, "echo first; echo second >&2; exit 7")
	if code := d.must(t, "wait", name); code != "7\n" {
		t.Errorf("wait says %q", code)
	}
	res := d.run(t, "logs", name)
	if res.stdout != "first\n" || res.stderr != "second\n" {
		t.Errorf("logs: %v", res)
	}
	if state := d.must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", name); state != "exited 7 false\n" {
		t.Errorf("inspect: %q", state)
	}
}

func dockerExec(t *testing.T, d *docker) {
	name := d.start(t, "sleep 1000")
	d.run(t, "exec", name, "sh", "-c", "hostname | wc -c; id -u").expect(t, "13\n0\n")
	d.run(t, "exec", "--user", "user", "--workdir", "/tmp", "--env", "A=b", name, "sh", "-c", "id -u; id -G; pwd; echo $A").expect(t, "1000\n1000 2000\n/tmp\nb\n")
	if res := d.run(t, "exec", name, "sh", "-c", "exit 5"); res.code != 5 {
		t.Errorf("exit 5: %v", res)
	}
	missing := d.run(t, "exec", name, "/no/such/binary")
	if missing.code != 126 && missing.code != 127 || !strings.Contains(missing.stdout+missing.stderr, "no such file or directory") {
		t.Errorf("missing binary: %v", missing)
	}
	d.must(t, "exec", "--detach", name, "touch", "/tmp/detached")
	eventually(t, "a detached exec runs", func() bool { return d.run(t, "exec", name, "test", "-e", "/tmp/detached").code == 0 })
	cmd := d.Command(context.Background(), "exec", "--interactive", name, "cat")
	cmd.Stdin = strings.NewReader("in and out\n")
	finish(t, cmd).expect(t, "in and out\n")
}

func dockerExecTerminal(t *testing.T, d *docker) {
	name := d.start(t, "sleep 1000")
	// The client sends the size of its window after the start, at its own time.
	cmd := d.Command(context.Background(), "exec", "--interactive", "--tty", name, "sh", "-c",
		"tty; read w; echo got $w; for i in $(seq 500); do stty size 2>/dev/null | grep '24 90' && break; usleep 10000; done; exit 6")
	text, code := onTerminal(t, cmd, "hello\n")
	for _, want := range []string{"/dev/pts/", "got hello", "24 90"} {
		if !strings.Contains(text, want) {
			t.Errorf("the terminal lacks %q: %q", want, text)
		}
	}
	if code != 6 {
		t.Errorf("exit code %d", code)
	}
}

func dockerRunTerminal(t *testing.T, d *docker) {
	cmd := d.Command(context.Background(), "run", "--rm", "--interactive", "--tty", "--runtime", d.runtime, testImage, "sh", "-c", "tty; read w; echo got $w; exit 6")
	text, code := onTerminal(t, cmd, "hello\n")
	if !strings.Contains(text, "/dev/pts/0") || !strings.Contains(text, "got hello") || code != 6 {
		t.Errorf("exit code %d, terminal %q", code, text)
	}
}

func dockerStdin(t *testing.T, d *docker) {
	cmd := d.Command(context.Background(), "run", "--rm", "--interactive", "--runtime", d.runtime, testImage, "wc", "-c")
	cmd.Stdin = bytes.NewReader(make([]byte, 300_000))
	finish(t, cmd).expect(t, "300000\n")
}

func dockerPublishedPort(t *testing.T, d *docker) {
	name := d.start(t, "httpd -f -p 8080 -h /var/www", "--publish", "127.0.0.1::8080")
	address := strings.TrimSpace(d.must(t, "port", name, "8080"))
	var page string
	eventually(t, "the published port answers", func() bool {
		conn, err := d.Dial("tcp", address)
		if err != nil {
			return false
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /index.html HTTP/1.0\r\n\r\n")
		var b bytes.Buffer
		_, err = b.ReadFrom(conn)
		page = b.String()
		return err == nil && page != ""
	})
	if !strings.HasSuffix(page, "served by busybox\n") {
		t.Errorf("the page is %q", page)
	}
}

func dockerUserNetwork(t *testing.T, d *docker) {
	network := "n-" + strings.ToLower(rand.Text()[:10])
	d.must(t, "network", "create", network)
	t.Cleanup(func() { d.must(t, "network", "rm", network) })
	server := d.start(t, "httpd -f -p 80 -h /var/www", "--network", network, "--network-alias", "server")
	d.once(t, "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://server/index.html && exit 0; usleep 100000; done", "--network", network).expect(t, "served by busybox\n")
	d.once(t, "for i in 1 2 3 4 5; do ping -c 1 -W 1 "+server+" >/dev/null && echo reached && exit 0; done", "--network", network).expect(t, "reached\n")
	if res := d.once(t, "wget -q -T 2 -O - http://server/index.html"); res.code == 0 {
		t.Errorf("reached from another network: %v", res)
	}
}

func dockerVolumes(t *testing.T, d *docker) {
	host := hostDir(t)
	d.once(t, "cat /rw/file; echo new > /rw/new; cat /ro/file; touch /ro/x 2>/dev/null || echo refused", "--volume", host+":/rw", "--volume", host+":/ro:ro").expect(t, "from the host\nfrom the host\nrefused\n")
	if text := readText(t, host, "new"); text != "new\n" {
		t.Errorf("the host sees %q", text)
	}
	volume := "v-" + strings.ToLower(rand.Text()[:10])
	t.Cleanup(func() { d.must(t, "volume", "rm", volume) })
	d.once(t, "cat /v/index.html; echo kept > /v/kept", "--volume", volume+":/var/www", "--volume", volume+":/v").expect(t, "served by busybox\n")
	d.once(t, "cat /v/kept", "--mount", "type=volume,source="+volume+",target=/v,readonly").expect(t, "kept\n")
}

func dockerReadOnly(t *testing.T, d *docker) {
	d.once(t, "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo fine; df -k /scratch | tail -1 | awk '{print $2}'", "--read-only", "--tmpfs", "/scratch:size=1m").expect(t, "refused\nfine\n1024\n")
}

func dockerUser(t *testing.T, d *docker) {
	d.once(t, "id -u; id -g; id -G; touch /x 2>/dev/null || echo refused; touch /tmp/x && echo fine", "--user", "user").expect(t, "1000\n1000\n1000 2000\nrefused\nfine\n")
	d.once(t, "id -u; id -g", "--user", "1234:5678").expect(t, "1234\n5678\n")
	d.once(t, "id -G", "--user", "1234:5678", "--group-add", "99").expect(t, "5678 99\n")
}

func dockerCapDrop(t *testing.T, d *docker) {
	d.once(t, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f2 | uniq; chown 5 /tmp 2>/dev/null || echo refused", "--cap-drop", "ALL").expect(t, "0000000000000000\nrefused\n")
	d.once(t, "chown 5 /tmp && echo fine", "--cap-drop", "ALL", "--cap-add", "CHOWN").expect(t, "fine\n")
	d.once(t, "mount -t tmpfs x /tmp 2>/dev/null || echo refused").expect(t, "refused\n")
	d.once(t, "mount -t tmpfs x /tmp && echo mounted", "--cap-add", "SYS_ADMIN").expect(t, "mounted\n")
}

func dockerMemory(t *testing.T, d *docker) {
	if res := d.once(t, "head -c 10000000 /dev/zero | tail -c 10000000 | wc -c; exec tail -c 200000000 /dev/zero", "--memory", "48m", "--memory-swap", "48m"); res.code != 137 || res.stdout != "10000000\n" {
		t.Errorf("over the limit: %v", res)
	}
	name := d.start(t, "exec tail -c 200000000 /dev/zero", "--memory", "48m", "--memory-swap", "48m")
	d.must(t, "wait", name)
	if state := d.must(t, "inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", name); state != "137 true\n" {
		t.Errorf("inspect: %q", state)
	}
}

func dockerPidsLimit(t *testing.T, d *docker) {
	d.once(t, "sleep 100 & sleep 100 & echo two; (sleep 100 & sleep 100 & sleep 100 & sleep 100 &) 2>/dev/null || echo refused", "--pids-limit", "5").expect(t, "two\nrefused\n")
}

func dockerUlimit(t *testing.T, d *docker) {
	d.once(t, "ulimit -n; cat /proc/sys/net/ipv4/ip_forward /dev/shm/../../proc/self/oom_score_adj; df -k /dev/shm | tail -1 | awk '{print $2}'",
		"--ulimit", "nofile=123:123", "--sysctl", "net.ipv4.ip_forward=1", "--oom-score-adj", "200", "--shm-size", "1m").expect(t, "123\n1\n200\n1024\n")
}

func dockerPause(t *testing.T, d *docker) {
	name := d.start(t, "while :; do date +%s%N > /tmp/now; usleep 10000; done")
	d.must(t, "pause", name)
	if status := d.must(t, "inspect", "--format", "{{.State.Status}}", name); status != "paused\n" {
		t.Errorf("status %q", status)
	}
	if res := d.run(t, "exec", name, "true"); res.code == 0 {
		t.Error("exec into a paused container was let through")
	}
	read := func() string {
		target := filepath.Join(t.TempDir(), "now")
		d.must(t, "cp", name+":/tmp/now", target)
		return readText(t, filepath.Dir(target), "now")
	}
	if first, second := read(), read(); first != second {
		t.Errorf("a paused container goes on: %q, then %q", first, second)
	}
	frozen := read()
	d.must(t, "unpause", name)
	eventually(t, "it goes on", func() bool { return d.must(t, "exec", name, "cat", "/tmp/now") != frozen })
}

func dockerStop(t *testing.T, d *docker) {
	name := d.start(t, "trap 'echo stopping; exit 9' TERM; echo ready; while :; do usleep 10000; done")
	eventually(t, "it is ready", func() bool { return d.must(t, "logs", name) == "ready\n" })
	d.must(t, "stop", "--time", "20", name)
	if state := d.must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name); state != "exited 9\n" {
		t.Errorf("a stop that is listened to: %q", state)
	}
	name = d.start(t, "trap '' TERM; while :; do usleep 10000; done")
	d.must(t, "stop", "--time", "1", name)
	if state := d.must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name); state != "exited 137\n" {
		t.Errorf("a stop that is not: %q", state)
	}
}

func dockerRestart(t *testing.T, d *docker) {
	name := d.start(t, "echo up; exec sleep 1000")
	for range 2 {
		d.must(t, "restart", "--time", "0", name)
	}
	eventually(t, "it has come up three times", func() bool { return d.must(t, "logs", name) == "up\nup\nup\n" })
	d.run(t, "exec", name, "echo", "alive").expect(t, "alive\n")
	again := d.start(t, "echo up; exit 1", "--restart", "on-failure:2")
	eventually(t, "it has been restarted twice", func() bool {
		return d.must(t, "inspect", "--format", "{{.RestartCount}} {{.State.Status}}", again) == "2 exited\n"
	})
}

func dockerKill(t *testing.T, d *docker) {
	name := d.start(t, "trap 'echo got it; exit 4' USR1; echo ready; while :; do usleep 10000; done")
	eventually(t, "it is ready", func() bool { return d.must(t, "logs", name) == "ready\n" })
	d.must(t, "kill", "--signal", "USR1", name)
	if code := d.must(t, "wait", name); code != "4\n" {
		t.Errorf("kill USR1: exit code %q", code)
	}
	name = d.start(t, "sleep 1000")
	d.must(t, "kill", name)
	if code := d.must(t, "wait", name); code != "137\n" {
		t.Errorf("kill: exit code %q", code)
	}
}

func dockerTop(t *testing.T, d *docker) {
	name := d.start(t, "sleep 1234 & sleep 1235; wait")
	eventually(t, "both are listed", func() bool {
		top := d.must(t, "top", name)
		return strings.Contains(top, "sleep 1234") && strings.Contains(top, "sleep 1235")
	})
}

func dockerStats(t *testing.T, d *docker) {
	name := d.start(t, "sleep 1000", "--memory", "64m")
	stats := strings.Fields(d.must(t, "stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", name))
	if len(stats) != 4 || stats[2] != "64MiB" || stats[3] == "0" || strings.HasPrefix(stats[0], "0B") {
		t.Errorf("stats: %q", stats)
	}
}

func dockerCopy(t *testing.T, d *docker) {
	name := d.start(t, "sleep 1000")
	host := hostDir(t)
	d.must(t, "cp", filepath.Join(host, "file"), name+":/tmp/copied")
	d.run(t, "exec", name, "cat", "/tmp/copied").expect(t, "from the host\n")
	d.must(t, "exec", name, "sh", "-c", "echo from inside > /tmp/inside")
	d.must(t, "cp", name+":/tmp/inside", filepath.Join(host, "inside"))
	if text := readText(t, host, "inside"); text != "from inside\n" {
		t.Errorf("copied out: %q", text)
	}
}

func dockerInit(t *testing.T, d *docker) {
	name := d.start(t, "exec sleep 1000", "--init")
	if one := d.must(t, "exec", name, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"); !strings.Contains(one, "init") {
		t.Errorf("process 1 is %q", one)
	}
	if res := d.once(t, "exit 8", "--init"); res.code != 8 {
		t.Error(res)
	}
}

func dockerNetworkModes(t *testing.T, d *docker) {
	d.once(t, "ls /sys/class/net", "--network", "none").expect(t, "lo\n")
	if res := d.once(t, "ls /sys/class/net; readlink /proc/self/ns/net", "--network", "host"); !strings.Contains(res.stdout, "docker0\n") {
		t.Errorf("network host: %v", res)
	}
	name := d.start(t, "httpd -f -p 80 -h /var/www")
	d.once(t, "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://127.0.0.1/index.html && exit 0; usleep 100000; done", "--network", "container:"+name).expect(t, "served by busybox\n")
}

func dockerNoNewPrivileges(t *testing.T, d *docker) {
	d.once(t, "grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges").expect(t, "NoNewPrivs:\t1\n")
	d.once(t, "grep Seccomp: /proc/self/status", "--security-opt", "seccomp=unconfined").expect(t, "Seccomp:\t0\n")
}

func dockerMissingBinary(t *testing.T, d *docker) {
	res := d.run(t, "run", "--rm", "--runtime", d.runtime, testImage, "/no/such/binary")
	if res.code != 127 || !strings.Contains(res.stderr, "no such file or directory") {
		t.Errorf("missing: %v", res)
	}
	res = d.run(t, "run", "--rm", "--runtime", d.runtime, testImage, "nosuchbinary")
	if res.code != 127 || !strings.Contains(res.stderr, "executable file not found in $PATH") {
		t.Errorf("not on the PATH: %v", res)
	}
	res = d.run(t, "run", "--rm", "--runtime", d.runtime, testImage, "/etc/passwd")
	if res.code != 126 || !strings.Contains(res.stderr, "permission denied") {
		t.Errorf("not executable: %v", res)
	}
	res = d.run(t, "run", "--rm", "--runtime", d.runtime, "--workdir", "/etc/passwd", testImage, "true")
	if res.code == 0 {
		t.Errorf("a working directory that is a file: %v", res)
	}
}
