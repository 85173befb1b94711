package bundle

import (
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func containerProcess() *specs.Process {
	return &specs.Process{
		Terminal: true,
		Args:     []string{"init"},
		Env:      []string{"A=1"},
		Cwd:      "/srv",
		User:     specs.User{UID: 10, GID: 20, AdditionalGids: []uint32{30}},
		Capabilities: &specs.LinuxCapabilities{
			Bounding: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"},
		},
	}
}

func TestExecProcess(t *testing.T) {
	base := containerProcess()
	got, warnings, err := ExecProcess(base, ExecOptions{Args: []string{"ls"}})
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	want := containerProcess()
	want.Args, want.Terminal = []string{"ls"}, false
	if !reflect.DeepEqual(got, want) {
		t.Errorf("without flags\n got %+v\nwant %+v", got, want)
	}

	got, _, err = ExecProcess(base, ExecOptions{
		Args: []string{"ls"}, Cwd: "/tmp", Env: []string{"B=2"}, TTY: true, User: "1:2",
		AdditionalGIDs: []int64{40}, Caps: []string{"CAP_CHOWN"}, NoNewPrivs: pointer(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	sets := []string{"CAP_KILL", "CAP_CHOWN"}
	want = &specs.Process{
		Terminal: true, Args: []string{"ls"}, Env: []string{"A=1", "B=2"}, Cwd: "/tmp", NoNewPrivileges: true,
		User:         specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{30, 40}},
		Capabilities: &specs.LinuxCapabilities{Bounding: sets, Effective: sets, Permitted: sets},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("with flags\n got %+v\nwant %+v", got, want)
	}
	if !reflect.DeepEqual(base, containerProcess()) {
		t.Errorf("the container's process changed: %+v", base)
	}
}

func TestExecProcessAmbient(t *testing.T) {
	base := containerProcess()
	base.Capabilities.Inheritable = []string{"CAP_KILL"}
	got, _, err := ExecProcess(base, ExecOptions{Args: []string{"ls"}, Caps: []string{"CAP_CHOWN"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CAP_CHOWN"}; !reflect.DeepEqual(got.Capabilities.Ambient, want) {
		t.Errorf("ambient %q, want %q", got.Capabilities.Ambient, want)
	}
	base.Capabilities = nil
	got, _, err = ExecProcess(base, ExecOptions{Args: []string{"ls"}, Caps: []string{"CAP_CHOWN"}})
	only := []string{"CAP_CHOWN"}
	if want := (&specs.LinuxCapabilities{Bounding: only, Effective: only, Permitted: only}); err != nil || !reflect.DeepEqual(got.Capabilities, want) {
		t.Errorf("a process without capabilities got sets %+v, %v", got.Capabilities, err)
	}
	if got, _, err = ExecProcess(base, ExecOptions{Args: []string{"ls"}}); err != nil || got.Capabilities != nil {
		t.Errorf("without --cap: %+v, %v", got.Capabilities, err)
	}
}

func TestExecProcessUserKeepsGroup(t *testing.T) {
	got, _, err := ExecProcess(containerProcess(), ExecOptions{Args: []string{"ls"}, User: "1"})
	if err != nil || got.User.UID != 1 || got.User.GID != 20 {
		t.Errorf("user %+v, %v", got.User, err)
	}
}

func TestExecProcessErrors(t *testing.T) {
	for _, test := range []struct {
		want    string
		options ExecOptions
	}{
		{"args: missing", ExecOptions{}},
		{`cwd: "x" is not absolute`, ExecOptions{Args: []string{"a"}, Cwd: "x"}},
		{`env[1]: "B" has no "="`, ExecOptions{Args: []string{"a"}, Env: []string{"B"}}},
		{`user: "root" is not a user id (expected UID[:GID])`, ExecOptions{Args: []string{"a"}, User: "root"}},
		{`user: "4294967296" is not a user id (expected UID[:GID])`, ExecOptions{Args: []string{"a"}, User: "4294967296"}},
		{`user: "" is not a group id (expected UID[:GID])`, ExecOptions{Args: []string{"a"}, User: "1:"}},
		{"user.uid: 4294967295 is reserved and no id", ExecOptions{Args: []string{"a"}, User: "4294967295"}},
		{"additional-gids: -1 is not a group id", ExecOptions{Args: []string{"a"}, AdditionalGIDs: []int64{-1}}},
		{"selinuxLabel: not supported by this version", ExecOptions{Args: []string{"a"}, ProcessLabel: "x"}},
		{"selinuxLabel: not supported by this version", ExecOptions{Args: []string{"a"}, ProcessLabel: "x"}},
	} {
		_, _, err := ExecProcess(containerProcess(), test.options)
		wantError(t, err, test.want)
	}
}
