package integration

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// limited gives a container limits of each kind.
func limited(s *specs.Spec) {
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: pointer[int64](64 * mebibyte), Swap: pointer[int64](128 * mebibyte), Reservation: pointer[int64](32 * mebibyte)}
	s.Linux.Resources.CPU = &specs.LinuxCPU{Shares: pointer[uint64](512), Quota: pointer[int64](20000), Period: pointer[uint64](50000), Burst: pointer[uint64](1000)}
	s.Linux.Resources.Pids = &specs.LinuxPids{Limit: pointer[int64](50)}
}

// updates are the commands of a row, of lines of flags of update.
func updates(lines ...string) [][]string {
	var commands [][]string
	for _, line := range lines {
		commands = append(commands, append(append([]string{"update"}, strings.Fields(line)...), "@"))
	}
	return commands
}

func updateRows() []parityRow {
	rows := []parityRow{
		{name: "update: nothing", commands: updates("")},
		{name: "update: memory", commands: updates("--memory 32m", "--memory 128m", "--memory 33554432", "--memory 1.5g", "--memory -1", "--memory 0")},
		{name: "update: memory in other words", commands: updates("--memory 65536KiB", "--memory 70mb", "--memory 80MB", "--memory .5g", "--memory 5.g")},
		{name: "update: no memory limit", commands: updates("--memory abc", "--memory -5", "--memory 10x", "--memory 0x10", "--memory 64i", "--memory-swap x", "--memory-reservation 1y", "--kernel-memory z", "--kernel-memory-tcp z")},
		{name: "update: a gap in a size", commands: [][]string{{"update", "--memory", "64 m", "@"}, {"update", "--memory", "64  m", "@"}, {"update", "--memory", " 64m", "@"}}},
		{name: "update: memory below what is used", commands: updates("--memory 64b"), says: "unable to set memory limit to 64 (current usage: "},
		{name: "update: memory and swap, raised", change: limited, commands: updates("--memory 256m --memory-swap 512m")},
		{name: "update: memory and swap, lowered", change: limited, commands: updates("--memory 16m --memory-swap 32m")},
		{name: "update: memory above swap", change: limited, commands: updates("--memory 256m"), says: "memory.limit_in_bytes: invalid argument"},
		{name: "update: swap without memory", commands: updates("--memory-swap 64m")},
		{name: "update: swap below memory", change: limited, commands: updates("--memory-swap 1m")},
		{name: "update: no swap limit, then one", change: limited, commands: updates("--memory 256m --memory-swap -1", "--memory 32m", "--memory-swap 64m")},
		{name: "update: no memory limit, then one", change: limited, commands: updates("--memory -1", "--memory 64m", "--memory 64m --memory-swap 64m")},
		{name: "update: reservation", change: limited, commands: updates("--memory-reservation 16m", "--memory-reservation 0", "--memory-reservation -1")},
		{name: "update: kernel memory", commands: updates("--kernel-memory 64m", "--kernel-memory-tcp -1")},
		{name: "update: quota and period apart", change: limited, commands: updates("--cpu-quota 30000", "--cpu-period 60000", "--cpu-quota -1", "--cpu-quota 0", "--cpu-period 0")},
		{name: "update: quota and period", commands: updates("--cpu-quota 30000 --cpu-period 60000", "--cpu-quota -1", "--cpu-period 50000", "--pids-limit 9")},
		{name: "update: no quota or period", change: limited, commands: updates("--cpu-quota 999", "--cpu-period 999", "--cpu-period 2000000", "--cpu-period -1", "--cpu-quota x")},
		{name: "update: burst", change: limited, commands: updates("--cpu-burst 2000", "--cpu-quota 10000", "--cpu-burst 0", "--cpu-burst -1", "--cpu-burst 90000")},
		{name: "update: shares", change: limited, commands: updates("--cpu-share 1024", "--cpu-share 2", "--cpu-share 0", "--cpu-share -1", "--cpu-share x")},
		{name: "update: idle", commands: updates("--cpu-idle 1", "--cpu-idle 0", "--cpu-idle 2", "--cpu-idle x")},
		{name: "update: idle, then shares", commands: updates("--cpu-idle 1", "--cpu-share 512", "--cpu-idle 0", "--cpu-share 512")},
		{name: "update: realtime", commands: updates("--cpu-rt-period 500000", "--cpu-rt-runtime x", "--cpu-rt-period -1")},
		{name: "update: cpuset", commands: updates("--cpuset-cpus 0", "--memory 64m", "--pids-limit 5", "--cpuset-mems 0", "--cpuset-cpus 4000", "--cpuset-cpus x", "--cpuset-mems x")},
		{name: "update: weight", commands: updates("--blkio-weight 500", "--blkio-weight 10", "--blkio-weight 0", "--blkio-weight 5", "--blkio-weight 1001", "--blkio-weight -1", "--blkio-weight 70000")},
		{name: "update: processes", change: limited, commands: updates("--pids-limit 20", "--memory 32m", "--pids-limit 0", "--pids-limit 1", "--pids-limit -1", "--pids-limit 99999999")},
		{name: "update: Intel RDT", commands: updates("--l3-cache-schema L3:0=f", "--mem-bw-schema MB:0=10", "--memory 64m --l3-cache-schema L3:0=f", "--resources /dev/null --l3-cache-schema L3:0=f")},
		{name: "update: no such file", commands: updates("--resources /nowhere", "--resources /tmp"), says: "/nowhere: no such file or directory"},
		{name: "update: a container that is created", status: "created", change: limited, commands: updates("--memory 32m", "--pids-limit 64", "--cpu-quota 10000")},
		{name: "update: a container that is paused", status: "paused", change: limited, commands: updates("--memory 32m", "--pids-limit 64", "--cpu-quota 10000")},
		{name: "update: a container that has stopped", status: "stopped", change: limited, commands: updates("--memory 32m"), says: "container not running"},
		{name: "update: shares that are refused", change: limited, commands: updates("--cpu-share 1"), differs: "the former limits are in force again"},
		{name: "update: memory above swap, both given", change: limited, commands: updates("--memory 256m --memory-swap 200m"), differs: "the former limits are in force again"},
		{name: "update: the largest number", commands: updates("--memory 9223372036854775807"), differs: "runc makes a negative number of it"},
	}
	documents := func(differs string, stdins ...string) parityRow {
		return parityRow{name: "update: " + stdins[0], change: limited, commands: updates("--resources -"), stdins: stdins, differs: differs}
	}
	return append(rows,
		documents("", `{"memory":{"limit":33554432}}`, `{}`, `{"memory":{"limit":1024,"checkBeforeUpdate":true}}`, `{"memory":{"kernel":1000000}}`, `{"unknown":1,"memory":{"limit":16777216,"unknown":1}}`,
			`nonsense`, ``, `[]`, `{"memory":{"limit":"64m"}}`, `{"memory":{"limit":1.5}}`, `{"cpu":{"shares":-1}}`, `{"blockIO":{"weight":100000}}`, `{"unified":{"no.such":"1"}}`),
		documents("", `{"memory":{"limit":134217728,"swap":268435456}}`, `{"devices":[{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}]}`, `{"pids":{"limit":9}} more`),
		documents("", `{"memory":{"limit":0,"reservation":0,"swap":0,"checkBeforeUpdate":true},"cpu":{"shares":0,"quota":0,"burst":0,"period":0,"cpus":"","mems":""},"blockIO":{"weight":0}}`),
		documents("", `{"cpu":{"shares":100,"quota":12345,"period":40000,"cpus":"0"}}`, `{"cpu":{"quota":-1}}`, `{"cpu":{"shares":200}}`, `{"cpu":{"idle":1}}`),
		documents("", `{"pids":{"limit":7}}`, `{"pids":{}}`, `{"cpu":{}}`), documents("", `{"pids":{"limit":-1}}`), documents("", `{"pids":{"limit":0}}`),
		documents("", `{"blockIO":{"weight":100}}`, `{"blockIO":{"throttleReadBpsDevice":[{"major":99,"minor":99,"rate":1000000}]}}`),
		documents("runc crashes", `{"memory":null,"pids":null}`),
		documents("runc leaves out what it does not know how to change", `{"memory":{"swappiness":10}}`),
		parityRow{name: "update: a file and flags", change: limited, commands: updates("--resources - --pids-limit 4 --memory 32m"), stdins: []string{`{"cpu":{"shares":100}}`}},
	)
}

// words is a text without its columns, whose width depends on what there is to say.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

func statusRows() []parityRow {
	lines := func(text string) string {
		heading, _, _ := strings.Cut(text, "\n")
		return heading + strings.Repeat("\nline", strings.Count(text, "\n")-1)
	}
	rows := []parityRow{
		{name: "events: intervals", status: "stopped", commands: [][]string{{"events", "--interval", "0s", "@"}, {"events", "--interval", "-1s", "@"}, {"events", "--interval", "x", "@"}, {"events", "@"}}},
		{name: "events: of a created container", status: "created", commands: [][]string{{"events", "--stats", "@"}}, see: func(text string) string { return text[:min(len(text), 30)] }},
		{name: "events: of a paused container", status: "paused", commands: [][]string{{"events", "--stats", "@"}}, see: func(text string) string { return text[:min(len(text), 30)] }},
		{name: "events: of a stopped container", status: "stopped", commands: [][]string{{"events", "--stats", "@"}}, says: "is not running"},
		{name: "events: statistics", change: limited, commands: [][]string{{"exec", "@", "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=1"}, {"events", "--stats", "@"}}, see: keys},
		{name: "ps: own options", commands: [][]string{{"ps", "@", "-o", "pid,comm"}, {"ps", "@", "-o", "comm"}, {"ps", "@", "--no-such-option"}, {"ps", "@", "-f", "json"}}, see: words},
		{name: "ps: of a container that has stopped", status: "stopped", commands: [][]string{{"ps", "@"}}},
		{name: "ps: of a container that has stopped, as JSON", status: "stopped", commands: [][]string{{"ps", "--format", "json", "@"}}, differs: "an empty list is [] and not null"},
		{name: "kill: numbers and names", commands: [][]string{{"kill", "@", "0"}, {"kill", "@", "WINCH"}, {"kill", "@", "sigwinch"}, {"kill", "@", "SIGWINCH"}, {"kill", "@", "28"}, {"kill", "@", "64"},
			{"kill", "@", "65"}, {"kill", "@", "NONE"}, {"kill", "@", "1.5"}, {"kill", "@", "KILL", "more"}, {"kill"}}},
		{name: "kill: names of real-time signals", commands: [][]string{{"kill", "@", "RTMIN+1"}}, differs: "images name their stop signals like that"},
		{name: "delete: a container that runs", commands: [][]string{{"delete", "@"}}, says: "that is not stopped: running"},
		{name: "delete: a container that is paused", status: "paused", commands: [][]string{{"delete", "@"}}, says: "that is not stopped: paused"},
		{name: "delete: by force", commands: [][]string{{"delete", "--force", "@"}, {"delete", "--force", "@"}, {"delete", "@"}}, says: "container does not exist"},
		{name: "start: twice", commands: [][]string{{"start", "@"}}, says: "cannot start an already running container"},
		{name: "create: twice", commands: [][]string{{"create", "@"}, {"run", "@"}, {"run", "--detach", "@"}}, says: "container with given ID already exists"},
		{name: "pause and resume", commands: [][]string{{"resume", "@"}, {"pause", "@"}, {"pause", "@"}, {"resume", "@"}, {"resume", "@"}}, says: "container not paused"},
		{name: "pause: a container that has stopped", status: "stopped", commands: [][]string{{"pause", "@"}, {"resume", "@"}, {"start", "@"}}, says: "container not running"},
		{name: "verbs: none, or too many arguments", commands: [][]string{{"no-such-verb"}, {"state"}, {"state", "a", "b"}, {"list", "x"}, {"ps"}, {"delete"}, {"exec"}, {"spec", "x"}, {"features", "x"}}},
		{name: "spec: there is a file", commands: [][]string{{"spec"}, {"spec", "--rootless"}, {"spec", "--bundle", "/nowhere"}}},
	}
	for _, status := range []string{"running", "created", "paused", "stopped"} {
		rows = append(rows,
			parityRow{name: "state and list: " + status, status: status, change: func(s *specs.Spec) { s.Annotations = map[string]string{"a.b": "<c>"} }, commands: [][]string{
				{"state", "@"}, {"list", "--format", "json"}, {"list", "--quiet"}, {"list"}, {"list", "--format", "xml"}}, see: words},
			parityRow{name: "ps: " + status, status: status, commands: [][]string{{"ps", "@"}, {"ps", "--format", "table", "@", "aux"}, {"ps", "--format", "xml", "@"}}, see: func(text string) string {
				if text == "" {
					return ""
				}
				return lines(text)
			}},
		)
	}
	for _, signal := range []string{"HUP", "INT", "TERM"} {
		rows = append(rows, parityRow{name: "kill: a created container by " + signal, status: "created", commands: [][]string{{"kill", "@", signal}, {"state", "@"}}, ends: true})
	}
	rows = append(rows, parityRow{name: "kill: a created container stays", status: "created", commands: [][]string{{"kill", "@", "USR1"}, {"kill", "@", "WINCH"}, {"exec", "@", "pwd"}, {"state", "@"}}})
	return rows
}

func execRows() []parityRow {
	const show = `grep -E "^(Uid|Gid|Groups|Cap|NoNew)" /proc/self/status; pwd; env; exit 7`
	commands := func(lines ...string) [][]string {
		var all [][]string
		for _, line := range lines {
			all = append(all, append(append([]string{"exec"}, strings.Fields(line)...), "@", "sh", "-c", show))
		}
		return all
	}
	without := func(s *specs.Spec) { s.Process.Capabilities = nil }
	other := func(s *specs.Spec) {
		s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{50, 60}}
		s.Process.NoNewPrivileges = true
		s.Process.Capabilities.Inheritable, s.Process.Capabilities.Ambient = []string{"CAP_KILL"}, []string{"CAP_KILL"}
	}
	users := commands("", "--user 1000", "--user 1000:1001", "--user 0:5", "--user -1", "--user 1:", "--user root", "--user 4294967295", "--user :5", "--user 1:2:3")
	groups := commands("--additional-gids 7 --additional-gids 8", "-g 7 -g 7", "-g 7,8", "-g -5", "-g x", "-g 4294967295")
	rows := []parityRow{
		{name: "exec: capabilities", commands: commands("--cap CAP_SYS_ADMIN", "--cap CAP_NET_RAW --cap CAP_SYS_TIME", "--cap sys_admin", "--cap CAP_NO_SUCH", "--cap CAP_NET_RAW,CAP_SYS_TIME")},
		{name: "exec: capabilities where there are inheritable ones", change: other, commands: commands("--cap CAP_SYS_ADMIN", "--cap CAP_KILL")},
		{name: "exec: capabilities where there are none", change: without, commands: commands("--cap CAP_SYS_ADMIN"), differs: "runc crashes"},
		{name: "exec: user", commands: users}, {name: "exec: user of another one", change: other, commands: users},
		{name: "exec: user without capabilities", change: without, commands: users, differs: "runc 1.5 leaves all capabilities to a process without any in its spec; this runtime, like runc 1.1, none"},
		{name: "exec: groups", commands: groups}, {name: "exec: groups of another user", change: other, commands: groups},
		{name: "exec: an id that is too large", commands: commands("--user 4294967296"), differs: "runc takes it for 0"},
		{name: "exec: new privileges", commands: commands("--no-new-privs", "--no-new-privs=false")},
		{name: "exec: new privileges where there are none", change: other, commands: commands("--no-new-privs", "--no-new-privs=false")},
		{name: "exec: directory", commands: commands("--cwd /tmp", "--cwd /nowhere", "--cwd relative", "--cwd /tmp/../proc", "--cwd /bin/sh")},
		{name: "exec: environment", commands: commands("--env A=1", "-e A=1 -e A=2", "-e A", "-e =x", "-e A=1,B=2", "-e PATH=/nowhere", "-e HOME=/x", "-e A=")},
		{name: "exec: labels", commands: commands("--process-label x", "--apparmor x")},
		{name: "exec: sockets that are not there", commands: commands("--console-socket /nowhere", "--tty --detach", "--tty --detach --console-socket /nowhere", "--pidfd-socket /nowhere", "--tty")},
		{name: "exec: cgroups that are not there", commands: commands("--cgroup nowhere", "--cgroup ../x", "--cgroup /../x", "--cgroup none:x", "--cgroup :x", "--cgroup memory:nowhere")},
		{name: "exec: no program", commands: [][]string{{"exec", "@"}, {"exec", "@", "/nowhere"}, {"exec", "@", "nowhere"}, {"exec", "@", "/tmp"}, {"exec", "@", "/etc/passwd"}, {"exec", "@", ""}, {"exec", "--no-such-flag", "@", "true"}}},
		{name: "exec: exit codes", commands: [][]string{{"exec", "@", "sh", "-c", "exit 3"}, {"exec", "@", "sh", "-c", "kill -KILL $$"}, {"exec", "@", "sh", "-c", "kill -TERM $$"}, {"exec", "@", "sh", "-c", "echo $0 $1", "--user", "x"}}},
		{name: "exec: in a created container", status: "created", commands: [][]string{{"exec", "@", "pwd"}}},
		{name: "exec: in a paused container", status: "paused", commands: [][]string{{"exec", "@", "pwd"}}, says: "cannot exec in a paused container (use --ignore-paused to override)"},
		{name: "exec: in a stopped container", status: "stopped", commands: [][]string{{"exec", "@", "pwd"}}, says: "cannot exec in a stopped container"},
	}
	return append(rows,
		parityRow{name: "exec: processes from a file", commands: [][]string{{"exec", "--process", "/dev/stdin", "@"}}, stdins: []string{
			`{}`, `{"args":["pwd"]}`, `{"args":["pwd"],"cwd":"tmp"}`, `{"args":[],"cwd":"/"}`, `nonsense`, ``, `{"args":["pwd"],"cwd":"/tmp","env":["PATH=/bin"]}`,
			`{"args":["env"],"cwd":"/","env":["A=1","A=2","PATH=/bin"],"user":{"uid":1000,"gid":7,"additionalGids":[8]}}`,
			`{"args":["sh","-c","id; grep Cap /proc/self/status"],"cwd":"/","env":["PATH=/bin"],"user":{"uid":0,"gid":7},"capabilities":{"bounding":["CAP_KILL"],"permitted":["CAP_KILL"]}}`,
			`{"args":["sh","-c","ulimit -n"],"cwd":"/","env":["PATH=/bin"],"rlimits":[{"type":"RLIMIT_NOFILE","soft":33,"hard":44}]}`,
			`{"args":["true"],"cwd":"/","selinuxLabel":"x"}`, `{"args":["true"],"cwd":"/","rlimits":[{"type":"RLIMIT_NONE"}]}`,
		}},
		parityRow{name: "exec: a file and flags", commands: [][]string{{"exec", "--process", "/dev/stdin", "--cwd", "/", "--user", "1000", "@", "id"}}, stdins: []string{`{"args":["pwd"],"cwd":"/tmp","env":["PATH=/bin"]}`}},
		parityRow{name: "exec: a process with a umask", stdins: []string{`{"args":["sh","-c","umask"],"cwd":"/","env":["PATH=/bin"],"user":{"umask":63}}`},
			commands: [][]string{{"exec", "--process", "/dev/stdin", "@"}}, differs: "runc leaves the umask out"})
}
