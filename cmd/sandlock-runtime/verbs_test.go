package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"9": unix.SIGKILL, "KILL": unix.SIGKILL, "SIGKILL": unix.SIGKILL, "sigterm": unix.SIGTERM, "usr1": unix.SIGUSR1, "0": 0,
		"RTMIN": 34, "SIGRTMIN": 34, "RTMIN+3": 37, "rtmin+30": 64, "SIGRTMAX": 64, "RTMAX-1": 63, "64": 64, "37": 37,
	} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "SIG", "65", "-1", "-9", "FROB", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN3", "RTMIN+", "RTMIN+x", "99999999999999999999"} {
		if got, err := parseSignal(text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		} else if !strings.Contains(err.Error(), "unknown signal") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseSignal(f *testing.F) {
	f.Add("RTMIN+2")
	f.Fuzz(func(t *testing.T, text string) {
		if signal, err := parseSignal(text); err == nil && (signal < 0 || signal > realTimeMax) {
			t.Errorf("%q: %d", text, signal)
		}
	})
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"-1": -1, "0": 0, "64": 64, "64b": 64, "1k": 1 << 10, "512KB": 512 << 10, "512KiB": 512 << 10, "64m": 64 << 20, "1.5g": 3 << 29,
		"2T": 2 << 40, "1p": 1 << 50, "64 MB": 64 << 20, "9223372036854775807": 1<<63 - 1,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "m", "-2", "-1m", "much", "1x", "1mm", "1e3", "0x10", "1_000", "Inf", "NaN", "9223372036854775807k", "1i", "m5", "5 5", "64  m", "64m ", " 64"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, seed := range []string{"64m", "-1", "1.5GiB", "", "b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if bytes, err := parseBytes(text); err == nil && bytes < -1 {
			t.Errorf("%q: %d", text, bytes)
		}
	})
}

const psOutput = `UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 16:00 ?        00:00:00 init
root          23       1  0 16:00 ?        00:00:00 sleep 23

nobody       123       1  0 16:00 ?        00:00:00 sleep 1
`

func TestPrintProcesses(t *testing.T) {
	var out bytes.Buffer
	if err := printProcesses(&out, psOutput, []int{23, 7}); err != nil {
		t.Fatal(err)
	}
	want := "UID          PID    PPID  C STIME TTY          TIME CMD\nroot          23       1  0 16:00 ?        00:00:00 sleep 23\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
	for output, reason := range map[string]string{
		"":               "couldn't find PID field",
		"USER COMMAND\n": "couldn't find PID field",
		"PID CMD\nx y\n": "unable to parse pid",
		"A B PID\nx\n":   "no column 3",
	} {
		if err := printProcesses(&out, output, nil); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v", output, err)
		}
	}
}

func TestExecOptions(t *testing.T) {
	yes, no := true, false
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]oci.ExecOptions{
		"exec ID ls -l --all":    {Args: []string{"ls", "-l", "--all"}},
		"exec ID -- ls -l":       {Args: []string{"ls", "-l"}},
		"exec -- ID ls -- x":     {Args: []string{"ls", "--", "x"}},
		"exec -t ID sh -t -c id": {TTY: true, Args: []string{"sh", "-t", "-c", "id"}},
		"exec -e A=1,2 -e B=3 ID env": {
			Env: []string{"A=1,2", "B=3"}, Args: []string{"env"},
		},
		"exec -u 1:2 -g 3 -g 4 --cap CAP_KILL --cap CAP_CHOWN --cwd /x -d --pid-file p --console-socket /s --pidfd-socket /t --preserve-fds 2 --ignore-paused --cgroup sub --apparmor a --process-label l ID a": {
			User: "1:2", AdditionalGIDs: []int64{3, 4}, Caps: []string{"CAP_KILL", "CAP_CHOWN"}, Cwd: "/x", Detach: true,
			PidFile: filepath.Join(here, "p"), ConsoleSocket: "/s", PidfdSocket: "/t", PreserveFDs: 2, IgnorePaused: true, Cgroups: map[string]string{"": "sub"},
			AppArmor: "a", ProcessLabel: "l", Args: []string{"a"},
		},
		"exec --cgroup cpu,pids:a --cgroup memory:b ID a": {
			Cgroups: map[string]string{"cpu": "a", "pids": "a", "memory": "b"}, Args: []string{"a"},
		},
		"exec --no-new-privs ID a":       {NoNewPrivs: &yes, Args: []string{"a"}},
		"exec --no-new-privs=false ID a": {NoNewPrivs: &no, Args: []string{"a"}},
		"exec -p /process.json ID":       {Process: "/process.json", Args: []string{}},
	} {
		parse(t, func(_ *program, c *cli.Context) {
			got, err := execOptions(c)
			if err != nil || c.Args().First() != "ID" {
				t.Errorf("%s: %v, id %q", line, err, c.Args().First())
			}
			for _, o := range []*oci.ExecOptions{&got, &want} {
				if len(o.Env) == 0 {
					o.Env = nil
				}
				if len(o.Caps) == 0 {
					o.Caps = nil
				}
				if len(o.AdditionalGIDs) == 0 {
					o.AdditionalGIDs = nil
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s:\n got %+v\nwant %+v", line, got, want)
			}
		}, strings.Fields(line)...)
	}
}

func TestCreationOptions(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]oci.CreateOptions{
		"create ID":               {},
		"run ID -b sub":           {Bundle: filepath.Join(here, "sub")},
		"create --bundle=/b/c ID": {Bundle: "/b/c"},
		"create --pid-file p --console-socket c --pidfd-socket d --no-pivot --no-new-keyring --preserve-fds 3 ID": {
			PidFile: filepath.Join(here, "p"), ConsoleSocket: "c", PidfdSocket: "d", NoPivot: true, NoNewKeyring: true, PreserveFDs: 3,
		},
		"run --no-subreaper --keep -d ID": {},
	} {
		parse(t, func(_ *program, c *cli.Context) {
			if got, err := creationOptions(c); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", line, got, err, want)
			}
		}, strings.Fields(line)...)
	}
}

func TestUpdateFlags(t *testing.T) {
	parse(t, func(p *program, c *cli.Context) {
		got, err := p.resourcesOf(c)
		if err != nil {
			t.Fatal(err)
		}
		weight := uint16(100)
		want := specs.LinuxResources{
			CPU: &specs.LinuxCPU{
				Shares: ptr(uint64(512)), Quota: ptr(int64(-1)), Period: ptr(uint64(100000)), Burst: ptr(uint64(0)), Idle: ptr(int64(1)),
				RealtimePeriod: ptr(uint64(7)), RealtimeRuntime: ptr(int64(5)), Cpus: "0-1", Mems: "0",
			},
			Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(-1)), Reservation: ptr(int64(1 << 20))},
			Pids:    &specs.LinuxPids{Limit: ptr(int64(-1))},
			BlockIO: &specs.LinuxBlockIO{Weight: &weight},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}, strings.Fields("update ID --cpu-share 512 --cpu-quota -1 --cpu-period 100000 --cpu-burst 0 --cpu-idle 1 --cpu-rt-period 7 --cpu-rt-runtime 5 "+
		"--cpuset-cpus 0-1 --cpuset-mems 0 --memory 64m --memory-swap -1 --memory-reservation 1M --pids-limit -1 --blkio-weight 100")...)

	parse(t, func(p *program, c *cli.Context) {
		got, err := p.resourcesOf(c)
		if want := (specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("without flags: %+v, %v", got, err)
		}
	}, "update", "ID")

	for _, line := range []string{"update --blkio-weight 70000 ID", "update --cpu-share -1 ID", "update --memory -5 ID"} {
		parse(t, func(p *program, c *cli.Context) {
			if got, err := p.resourcesOf(c); err == nil {
				t.Errorf("%s: accepted: %+v", line, got)
			}
		}, strings.Fields(line)...)
	}
}

func ptr[T any](v T) *T { return &v }

func TestUpdateFromFileOrStandardInput(t *testing.T) {
	const document = `{"memory": {"limit": 1048576}, "pids": {"limit": 7}}`
	file := filepath.Join(t.TempDir(), "resources.json")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"-", file} {
		p := &program{stdin: strings.NewReader(document)}
		r, err := p.readResources(name)
		if err != nil || *r.Memory.Limit != 1<<20 || *r.Pids.Limit != 7 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	p := &program{stdin: strings.NewReader(`{"memory": {"limit": "much"}}`)}
	if _, err := p.readResources("-"); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("%v", err)
	}
}
