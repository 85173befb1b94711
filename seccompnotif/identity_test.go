package seccompnotif

import (
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestParseIdentity(t *testing.T) {
	h, err := OpenHost()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	text, err := h.ReadProc(os.Getpid(), "status")
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseIdentity(text)
	if err != nil {
		t.Fatal(err)
	}
	if id.TGID != os.Getpid() || id.UID[1] != uint32(os.Geteuid()) || id.GID[0] != uint32(os.Getgid()) || id.Threads < 1 {
		t.Errorf("%+v", id)
	}
	for _, bad := range []string{"", "Tgid:\tx\n", "Tgid:\t1\nUid:\t1 2\n"} {
		if id, err := ParseIdentity([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, id)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte("Tgid:\t1\nNStgid:\t9 1\nNSpid:\t9 1\nUid:\t0 0 0 0\nGid:\t0 0 0 0\nUmask:\t0022\nGroups:\t1 2\nThreads:\t1\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nCapEff:\tff\n"))
	f.Fuzz(func(t *testing.T, text []byte) { _, _ = ParseIdentity(text) })
}

func TestIDMap(t *testing.T) {
	m, err := parseIDMap([]byte("         0     100000      65536\n  70000 5 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint32]uint32{0: 100000, 1000: 101000, 65535: 165535, 70000: 5} {
		if got, ok := m.outside(id); !ok || got != want {
			t.Errorf("%d: %d, %v", id, got, ok)
		}
	}
	for _, id := range []uint32{65536, 70001, ^uint32(0)} {
		if got, ok := m.outside(id); ok {
			t.Errorf("%d: %d", id, got)
		}
	}
	if _, err := parseIDMap([]byte("0 1\n")); err == nil {
		t.Error("a short line is accepted")
	}
}

// TestAsGuest acts for a guest with a user, groups, a root and a directory of its own: what is made there is the guest's, and what the
// guest may not reach is out of reach.
func TestAsGuest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: being somebody else takes root")
	}
	const user, group, more = 12345, 23456, 34567
	root := t.TempDir()
	for _, dir := range []string{"/", "/shut", "/open", "/open/dir"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, mode := range map[string]os.FileMode{"/shut": 0o700, "/open/dir": 0o777, "/": 0o755} {
		if err := os.Chmod(root+dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	host, err := OpenHost()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	v := startVictim(t, notified)
	memory := v.alloc(smallestPage)
	do := func(nr uintptr, args ...uint64) {
		t.Helper()
		r := v.syscall(nr, args...)
		expect(t, r, r.R, 0)
	}
	path := func(name string) uint64 {
		v.poke(memory, append([]byte(name), 0))
		return memory
	}
	do(unix.SYS_CHROOT, path(root))
	do(unix.SYS_CHDIR, path("/open/dir"))
	v.poke(memory, []byte{more & 0xff, more >> 8, 0, 0})
	do(unix.SYS_SETGROUPS, 1, memory)
	do(unix.SYS_SETRESGID, group, group, group)
	do(unix.SYS_SETRESUID, user, user, user)

	judged(t, v, func(c *Call) error {
		id, err := host.Identity(c)
		if err != nil {
			return err
		}
		if id.UID != [4]uint32{user, user, user, user} || id.GID != [4]uint32{group, group, group, group} || !slices.Equal(id.Groups, []uint32{more}) ||
			id.Effective != 0 || id.TGID != c.PID() || id.Threads < 1 {
			t.Errorf("%+v", id)
		}
		if own, shared := id.Deliverable(); own|shared != 0 {
			t.Errorf("signals %#x and %#x", own, shared)
		}
		if same, err := host.SharesUser(c); err != nil || !same {
			t.Errorf("the guest is in another user namespace: %v", err)
		}
		if uid, gid, err := host.OutsideIDs(c, 7, 8); err != nil || uid != 7 || gid != 8 {
			t.Errorf("ids %d, %d, %v", uid, gid, err)
		}
		open := func(name string) (int, unix.Errno, error) {
			fd := -1
			text, err := unix.BytePtrFromString(name)
			if err != nil {
				return -1, 0, err
			}
			errno, err := host.AsGuest(c, true, func() unix.Errno {
				here := unix.AT_FDCWD
				r, _, e := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(text)), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600, 0, 0)
				fd = int(r)
				return e
			})
			return fd, errno, err
		}
		fd, errno, err := open("made")
		if err != nil || errno != 0 {
			t.Fatalf("%v, %v", errno, err)
		}
		unix.Close(fd)
		for _, name := range []string{"/shut/made", "../../../../../../shut/made"} {
			if _, errno, err := open(name); errno != unix.EACCES || err != nil {
				t.Errorf("%s: %v, %v", name, errno, err)
			}
		}
		// Where the guest is, without being the guest, is the supervisor's.
		if errno, err := host.AsGuest(c, false, func() unix.Errno {
			if r, _, _ := unix.RawSyscall(unix.SYS_GETUID, 0, 0, 0); r != user {
				return unix.EIO
			}
			return 0
		}); errno != 0 || err != nil {
			t.Errorf("%v, %v", errno, err)
		}
		return nil
	})
	expect(t, v.syscall(callA), 0, 0)
	var st unix.Stat_t
	if err := unix.Stat(root+"/open/dir/made", &st); err != nil || st.Uid != user || st.Gid != group {
		t.Errorf("%+v, %v", st, err)
	}
	if os.Geteuid() != 0 || os.Getegid() != 0 {
		t.Error("the supervisor has become somebody else")
	}
	if wd, err := os.Getwd(); err != nil || strings.HasPrefix(wd, root) {
		t.Errorf("the supervisor is at %s, %v", wd, err)
	}
}
