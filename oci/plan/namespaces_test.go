package plan

import (
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var allTypes = []specs.LinuxNamespaceType{
	specs.MountNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace,
	specs.UserNamespace, specs.TimeNamespace,
}

func TestBirth(t *testing.T) {
	fresh := func(types ...specs.LinuxNamespaceType) (n Namespaces) {
		for _, kind := range types {
			n = append(n, Namespace{Type: string(kind)})
		}
		return n
	}
	joined := func(types ...specs.LinuxNamespaceType) (n Namespaces) {
		for _, kind := range types {
			n = append(n, Namespace{string(kind), "/ns/" + string(kind)})
		}
		return n
	}
	for _, test := range []struct {
		name string
		n    Namespaces
		want birth
		hop  bool
	}{
		{"as Docker has it", fresh(specs.MountNamespace, specs.NetworkNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.IPCNamespace),
			birth{clone: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC}, false},
		{"a user namespace owns the rest", fresh(specs.UserNamespace, specs.MountNamespace, specs.PIDNamespace),
			birth{clone: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID}, false},
		{"a cgroup namespace waits for the cgroup", fresh(specs.MountNamespace, specs.CgroupNamespace), birth{clone: unix.CLONE_NEWNS, cgroup: true}, false},
		{"a time namespace takes a hop, and the PID namespace waits for it", fresh(specs.MountNamespace, specs.PIDNamespace, specs.TimeNamespace),
			birth{clone: unix.CLONE_NEWNS, unshare: unix.CLONE_NEWPID | unix.CLONE_NEWTIME, names: "CLONE_NEWPID|CLONE_NEWTIME", time: true}, true},
		{"what a joined user namespace is to own is made in it", append(joined(specs.UserNamespace), fresh(specs.MountNamespace, specs.PIDNamespace, specs.NetworkNamespace)...),
			birth{unshare: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET, names: "CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWNET", joinUser: true}, true},
		{"joined ones are no part of it", append(fresh(specs.MountNamespace), joined(specs.PIDNamespace, specs.TimeNamespace, specs.NetworkNamespace, specs.UserNamespace)...),
			birth{unshare: unix.CLONE_NEWNS, names: "CLONE_NEWNS", join: []string{"network", "time"}, joinUser: true}, false},
		{"a new user namespace is made after the host's have been joined", append(fresh(specs.UserNamespace, specs.MountNamespace, specs.PIDNamespace), joined(specs.NetworkNamespace)...),
			birth{unshare: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID, names: "CLONE_NEWUSER|CLONE_NEWNS|CLONE_NEWPID", join: []string{"network"}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.n.birth()
			if !reflect.DeepEqual(got, test.want) || got.hop() != test.hop {
				t.Errorf("%+v, hop %v\nwant %+v, hop %v", got, got.hop(), test.want, test.hop)
			}
		})
	}
}

// Whatever the combination: each new namespace is made exactly once, each joined one is joined exactly once, and nothing else.
func TestBirthOfEveryCombination(t *testing.T) {
	const states = 3 // of each type: absent, new, joined
	combinations := 1
	for range allTypes {
		combinations *= states
	}
	for code := range combinations {
		var n Namespaces
		var made, rest uint64
		left := code
		for _, kind := range allTypes {
			known, _ := kindOf(string(kind))
			switch left % states {
			case 1:
				n = append(n, Namespace{Type: string(kind)})
				made |= known.flag
			case 2:
				n = append(n, Namespace{string(kind), "/ns"})
				rest |= known.flag
			}
			left /= states
		}
		b := n.birth()
		got := b.clone | b.unshare
		if b.cgroup {
			got |= unix.CLONE_NEWCGROUP
		}
		if b.clone&b.unshare != 0 || got != made {
			t.Fatalf("%v: made %#x and %#x, want %#x", n, b.clone, b.unshare, made)
		}
		if b.clone&unix.CLONE_NEWTIME != 0 {
			t.Fatalf("%v: clone3 with a time namespace leaves no moment to set its clocks", n)
		}
		if b.time != (made&unix.CLONE_NEWTIME != 0) {
			t.Fatalf("%v: time is %v", n, b.time)
		}
		var joined uint64
		for _, name := range b.join {
			known, _ := kindOf(name)
			joined |= known.flag
		}
		if b.joinUser != (rest&unix.CLONE_NEWUSER != 0) {
			t.Fatalf("%v: joins a user namespace is %v", n, b.joinUser)
		}
		// Whoever is in the new user namespace already cannot join what the host owns.
		if made&unix.CLONE_NEWUSER != 0 && len(b.join) > 0 && b.unshare != made&^unix.CLONE_NEWCGROUP {
			t.Fatalf("%v: made by unshare %#x, want all of %#x", n, b.unshare, made)
		}
		// A PID namespace is joined by being born there, and a mount namespace after all that takes the host's files.
		if want := rest &^ (unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUSER); joined != want || len(b.join) != ones(want) {
			t.Fatalf("%v: joined %q, want %#x", n, b.join, want)
		}
		if n.Early()&^b.clone != 0 || n.Has(specs.UserNamespace) && n.Early() != 0 {
			t.Fatalf("%v: made early: %#x", n, n.Early())
		}
	}
}

func ones(v uint64) (n int) {
	for ; v != 0; v &= v - 1 {
		n++
	}
	return n
}

func TestResolveNamespaces(t *testing.T) {
	for name, linux := range map[string]*specs.Linux{
		"none":               nil,
		"no mount namespace": {Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}}},
		"joined mount namespace with a new user namespace": {Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace, Path: "/ns"}, {Type: specs.UserNamespace}}},
		"unknown": {Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: "moon"}}},
	} {
		if got, err := resolveNamespaces(linux); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestJoined(t *testing.T) {
	n := Namespaces{{Type: "mount"}, {Type: "user"}, {Type: "time"}, {Type: "network", Path: "/ns"}}
	flags, names := n.Joined(true)
	if flags != unix.CLONE_NEWNS|unix.CLONE_NEWUSER|unix.CLONE_NEWTIME|unix.CLONE_NEWNET || names != "CLONE_NEWNS|CLONE_NEWUSER|CLONE_NEWTIME|CLONE_NEWNET" {
		t.Errorf("%#x, %s", flags, names)
	}
	if flags, _ := n.Joined(false); flags&unix.CLONE_NEWUSER != 0 {
		t.Error("the user namespace is joined by a process that is in it")
	}
}
