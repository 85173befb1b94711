package seccompnotif

import (
	"os"
	"testing"
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
