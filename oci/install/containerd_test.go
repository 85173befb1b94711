package install

import (
	"errors"
	"strings"
	"testing"
)

const containerd2 = `# the operator's own words
version = 2

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true`

const block2 = `# sandlock-runtime: begin sandlock, written by "sandlock-runtime install containerd"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandlock]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["io.sandlock.*"]
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandlock.options]
    BinaryName = "/usr/local/sbin/sandlock-runtime"
    SystemdCgroup = true
# sandlock-runtime: end sandlock
`

func TestContainerdInstall(t *testing.T) {
	plain := strings.ReplaceAll(block2, "    SystemdCgroup = true\n", "")
	for name, row := range map[string]struct{ before, after string }{
		"no file":                      {"", "version = 3\n" + strings.ReplaceAll(plain, "grpc.v1.cri", "cri.v1.runtime")},
		"the rest stays to the letter": {containerd2, containerd2 + "\n" + block2},
		"version 4":                    {"version = 4\n", "version = 4\n" + strings.ReplaceAll(plain, "grpc.v1.cri", "cri.v1.runtime")},
		"another place of the same":    {"version = 2\n" + strings.ReplaceAll(plain, "/usr/local/sbin", "/opt"), "version = 2\n" + plain},
	} {
		e := Containerd{NewVersion: 3}
		after, err := e.Install([]byte(row.before), sandlock)
		if err != nil || string(after) != row.after {
			t.Errorf("%s: %v\n%s", name, err, after)
		}
		if again, err := e.Install(after, sandlock); err != nil || string(again) != string(after) {
			t.Errorf("%s, again: %v\n%s", name, err, again)
		}
		back, err := e.Uninstall(after, "sandlock")
		if err != nil || e.Registered(back) || !e.Registered(after) {
			t.Errorf("%s, taken back: %v\n%s", name, err, back)
		}
		if e.Blank(back) != (name != "the rest stays to the letter") {
			t.Errorf("%s, taken back: blank %v\n%s", name, e.Blank(back), back)
		}
	}
}

func TestContainerdRefuses(t *testing.T) {
	for before, want := range map[string]string{
		"version = 1\n":      "version 1 of the configuration",
		"[plugins]\n":        "version 0 of the configuration",
		"version = 2\nx = =": "line 2: ",
		"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.sandlock.options]\nBinaryName = \"/bin/x\"\n": `registered already, for "/bin/x"`,
		"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes = {}\n":                                     "cannot be extended by a table",
	} {
		if _, err := (Containerd{}).Install([]byte(before), sandlock); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", before, err)
		}
	}
	byHand := strings.Join(strings.Split(block2, "\n")[1:6], "\n")
	if _, err := (Containerd{}).Uninstall([]byte("version = 2\n"+byHand), "sandlock"); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("a registration by hand: %v", err)
	}
	agent := sandlock
	agent.Profile = "agent"
	if _, err := (Containerd{NewVersion: 3}).Install(nil, agent); !errors.Is(err, ErrProfile) {
		t.Errorf("a profile: %v", err)
	}
}

func FuzzContainerd(f *testing.F) {
	for _, seed := range []string{"", containerd2, containerd2 + "\n" + block2, "version = 3\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, before []byte) {
		e := Containerd{NewVersion: 3}
		after, err := e.Install(before, sandlock)
		if err != nil {
			return
		}
		if again, err := e.Install(after, sandlock); err != nil || string(again) != string(after) {
			t.Fatalf("installed again: %v\n%s\n%s", err, after, again)
		}
		if _, err := e.Uninstall(after, sandlock.Name); err != nil {
			t.Fatalf("uninstalled: %v\n%s", err, after)
		}
	})
}
