package seccompnotif

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSyscallNames(t *testing.T) {
	if !slices.IsSortedFunc(syscallNames[:], func(a, b namedSyscall) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the table is not sorted: run go generate")
	}
	for _, g := range groups {
		for _, d := range g.denials {
			if _, _, known := SyscallNumber(d.Syscall); !known {
				t.Errorf("group %s has an unknown system call %s", g.name, d.Syscall)
			}
		}
	}
	if name, ok := SyscallName(unix.SYS_CONNECT); !ok || name != "connect" {
		t.Errorf("connect is called %q", name)
	}
	if name, ok := SyscallName(absent); ok {
		t.Errorf("no number is called %q", name)
	}
}

func TestLists(t *testing.T) {
	parse := func(entries ...string) SyscallList {
		t.Helper()
		l, err := ParseSyscallList(entries)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	none := SyscallList{}
	denials := func(deny, allow SyscallList) []string {
		t.Helper()
		ds, err := Denials(DefaultDenials(), deny, allow)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range ds {
			names = append(names, d.Syscall)
		}
		return names
	}
	if got, want := len(denials(none, none)), len(DefaultDenials()); got != want {
		t.Errorf("%d denials, want %d", got, want)
	}
	names := denials(parse("@sysv_ipc", " chroot ", "mount"), parse("@keyring", "perf_event_open"))
	for name, want := range map[string]bool{"shmget": true, "chroot": true, "mount": true, "keyctl": false, "perf_event_open": false, "bpf": true} {
		if slices.Contains(names, name) != want {
			t.Errorf("%s denied: %t", name, !want)
		}
	}
	if slices.Contains(denials(none, parse("@namespace")), "clone3") {
		t.Error("clone3 stays denied though namespaces are allowed")
	}
	// A name is a system call first; both mean the same to a list that denies twice.
	if !slices.Contains(denials(parse("ptrace"), parse("ptrace")), "ptrace") {
		t.Error("what is both denied and allowed is not denied")
	}
	if got := strings.Join(parse("mount", "@mount", "keyring", "bpf").Strings(), " "); got != "mount bpf @mount @keyring" {
		t.Error(got)
	}
	for want, allow := range map[string]SyscallList{
		"io_uring_setup cannot be allowed: what is submitted to a ring passes no filter":                  parse("@io_uring"),
		"clone3 cannot be allowed without @namespace: its flags lie in memory, where no filter sees them": parse("clone3"),
	} {
		if _, err := Denials(DefaultDenials(), none, allow); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	for entry, want := range map[string]string{
		"conect":    `unknown system call "conect": did you mean "connect"?`,
		"@keyrings": `unknown system call "@keyrings": did you mean "@keyring"?`,
		"@connect":  `unknown system call "@connect": did you mean "connect"?`,
		"zzzzzzzz":  `unknown system call "zzzzzzzz"`,
		"  ":        "empty name in a list of system calls",
	} {
		if _, err := ParseSyscallList([]string{entry}); err == nil || err.Error() != want {
			t.Errorf("%q: error is %v, want %s", entry, err, want)
		}
	}
	for _, d := range Without(DefaultDenials(), "ptrace", "keyring") {
		if d.Syscall == "ptrace" || d.Syscall == "keyctl" {
			t.Errorf("%s is left", d.Syscall)
		}
	}
}

// Every group is known by its name, and is not empty.
func TestGroups(t *testing.T) {
	names := Groups()
	if len(names) < 5 {
		t.Errorf("groups %q", names)
	}
	for _, name := range names {
		list, err := ParseSyscallList([]string{"@" + name})
		denials, more := Denials(nil, list, SyscallList{})
		if err != nil || more != nil || len(denials) == 0 {
			t.Errorf("@%s: %v, %v, %v", name, denials, err, more)
		}
	}
}
