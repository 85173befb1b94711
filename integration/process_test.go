package integration

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestProcess(t *testing.T) {
	process := func(change func(p *specs.Process)) func(*testing.T, *bundle) {
		return func(_ *testing.T, b *bundle) { change(b.spec.Process) }
	}
	probeAll(t, []probe{
		{name: "user and groups", change: process(func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 2000}}
		}), script: "id -u; id -g; id -G", want: "1000\n1001\n1001 5 2000\n"},
		{name: "umask", change: process(func(p *specs.Process) { p.User.Umask = pointer(uint32(0o027)) }), script: "umask", want: "0027\n"},
		{name: "working directory", change: process(func(p *specs.Process) { p.Cwd = "/home/user" }), script: "pwd", want: "/home/user\n"},
		{name: "a missing working directory is made", change: process(func(p *specs.Process) { p.Cwd = "/not/there/yet" }), script: "pwd", want: "/not/there/yet\n"},
		{name: "a working directory that is root's alone, as images have it for other users", change: func(t *testing.T, b *bundle) {
			privateDir(t, b, 0)
			b.spec.Process.User, b.spec.Process.Capabilities = specs.User{UID: 1000, GID: 1000}, &specs.LinuxCapabilities{}
		}, script: "pwd; ls /private 2>/dev/null || echo refused", want: "/private\nrefused\n"},
		{name: "a working directory that is the user's alone", change: func(t *testing.T, b *bundle) {
			privateDir(t, b, 1000)
			b.spec.Process.User, b.spec.Process.Capabilities = specs.User{UID: 1000, GID: 1000}, &specs.LinuxCapabilities{}
		}, script: "pwd; touch x && ls", want: "/private\nx\n"},
		{name: "environment is the spec's alone", change: process(func(p *specs.Process) { p.Env = []string{"PATH=/bin", "A=1", "B=x=y"} }),
			script: "tr '\\0' '\\n' < /proc/1/environ | sort", want: "A=1\nB=x=y\nHOME=/root\nPATH=/bin\n"},
		{name: "the binary is found on the spec's PATH", change: process(func(p *specs.Process) { p.Args = []string{"echo", "found"} }), want: "found\n"},
		{name: "capabilities: none", change: process(func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{} }),
			script: "grep Cap /proc/self/status | cut -f2 | uniq; chown 5 /tmp 2>/dev/null || echo refused", want: "0000000000000000\nrefused\n"},
		{name: "capabilities: each set", change: process(func(p *specs.Process) {
			kill, chown, setuid, net := "CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_NET_RAW"
			p.Capabilities = &specs.LinuxCapabilities{Bounding: []string{kill, chown, setuid, net}, Permitted: []string{kill, chown, setuid},
				Inheritable: []string{kill, chown}, Effective: []string{kill, chown, setuid}, Ambient: []string{kill}}
			p.User.UID = 1000
		}), script: "grep Cap /proc/self/status", want: "CapInh:\t0000000000000021\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\nCapBnd:\t00000000000020a1\nCapAmb:\t0000000000000020\n"},
		{name: "capabilities: Docker's default as root", script: "grep -E 'Cap(Eff|Bnd|Amb)' /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null || echo refused; chown 5 /tmp && echo fine",
			want: "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nrefused\nfine\n"},
		{name: "another user has no effective capability", change: process(func(p *specs.Process) { p.User.UID, p.User.GID = 1000, 1000 }),
			script: "grep CapEff /proc/self/status; touch /etc/x 2>/dev/null || echo refused; touch /tmp/x && echo fine", want: "CapEff:\t0000000000000000\nrefused\nfine\n"},
		{name: "no new privileges", change: process(func(p *specs.Process) { p.NoNewPrivileges = true }),
			script: "grep NoNewPrivs /proc/self/status", want: "NoNewPrivs:\t1\n"},
		{name: "new privileges", script: "grep NoNewPrivs /proc/self/status", want: "NoNewPrivs:\t0\n"},
		{name: "rlimits", change: process(func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}), script: "ulimit -Sn; ulimit -Hn; ulimit -Hc", want: "100\n200\n0\n"},
		{name: "oom_score_adj", change: process(func(p *specs.Process) { p.OOMScoreAdj = pointer(300) }), script: "cat /proc/self/oom_score_adj", want: "300\n"},
		{name: "descriptors: nothing but 0, 1, 2", script: "ls /proc/1/fd; true", want: "0\n1\n2\n"},
		{name: "it is a session leader", script: "cut -d' ' -f5,6 /proc/1/stat", want: "1 1\n"},
		{name: "signal dispositions are the default ones", change: process(func(p *specs.Process) {
			p.Args = []string{"/bin/grep", "-cE", "Sig(Blk|Ign):.00000000[08]0000000", "/proc/self/status"} // a shell has its own; 32 is libc's
		}), want: "2\n"},
		{name: "a script with an interpreter line", change: func(t *testing.T, b *bundle) {
			writeFile(t, b.root, "bin/script", "#!/bin/sh\necho from the script\n", 0o755)
			b.spec.Process.Args = []string{"/bin/script"}
		}, want: "from the script\n"},
		{name: "many and long arguments", change: process(func(p *specs.Process) {
			p.Args = []string{"/bin/sh", "-c", "echo $#; echo ${#1}", "sh"}
			for range 2000 {
				p.Args = append(p.Args, string(make100()))
			}
		}), want: "2000\n100\n"},
		{name: "seccomp of the spec", script: "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo refused; true && echo fine", want: "Seccomp:\t2\nrefused\nfine\n"},
		{name: "without a seccomp profile", change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Seccomp = nil
		}, script: "unshare -U true && echo allowed", want: "allowed\n"},
		{name: "a seccomp rule with an errno of its own", change: func(_ *testing.T, b *bundle) {
			b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: pointer(uint(28))}}}
		}, script: "mkdir /tmp/x 2>&1; touch /tmp/y && echo fine", want: "mkdir: can't create directory '/tmp/x': No space left on device\nfine\n"},
	})
}

func make100() []byte {
	text := make([]byte, 100)
	for i := range text {
		text[i] = 'x'
	}
	return text
}

// privateDir makes /private, which nobody but its owner may enter, the working directory.
func privateDir(t *testing.T, b *bundle, owner int) {
	t.Helper()
	dir := filepath.Join(b.root, "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, owner, owner); err != nil {
		t.Fatal(err)
	}
	b.spec.Process.Cwd = "/private"
}
