package seccompnotif

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzReadString compares the reader of strings with a model of an address space that has one mapping.
func FuzzReadString(f *testing.F) {
	f.Add(uint64(0x1000), []byte("hello\x00"), uint64(0x1000), 10)
	f.Add(uint64(0x1ffd), []byte("ab\x00"), uint64(0x1ffd), 4096)
	f.Add(uint64(0x1ffd), []byte("xx"), uint64(0x1ffe), 5000)
	f.Add(^uint64(0)-2, []byte("abc"), ^uint64(0)-2, 100)
	f.Fuzz(func(t *testing.T, base uint64, memory []byte, addr uint64, limit int) {
		if limit > 1<<16 || limit < 0 || base+uint64(len(memory)) < base {
			t.Skip()
		}
		var page [smallestPage]byte
		read := func(at uint64, into []byte) error {
			if len(into) == 0 || len(into) > smallestPage {
				t.Fatalf("a read of %d bytes", len(into))
			}
			if first, last := at/smallestPage, (at+uint64(len(into)-1))/smallestPage; first != last {
				t.Fatalf("a read of %d bytes at %#x crosses a page", len(into), at)
			}
			// As in a kernel, what is mapped is mapped by whole pages: outside of memory they read as 'z'.
			for i := range into {
				a := at + uint64(i)
				switch {
				case a >= base && a-base < uint64(len(memory)):
					into[i] = memory[a-base]
				case a/smallestPage >= base/smallestPage && len(memory) > 0 && a/smallestPage <= (base+uint64(len(memory)-1))/smallestPage:
					into[i] = 'z'
				default:
					return unix.EFAULT
				}
			}
			return nil
		}
		s, err := readString(addr, limit, &page, read)
		if err != nil {
			if s != "" {
				t.Errorf("%q together with %v", s, err)
			}
			return
		}
		if addr == 0 || len(s) >= limit || strings.IndexByte(s, 0) >= 0 {
			t.Fatalf("%q at %#x within %d", s, addr, limit)
		}
		for i := range len(s) + 1 {
			want := byte('z')
			if a := addr + uint64(i); a >= base && a-base < uint64(len(memory)) {
				want = memory[a-base]
			}
			got := byte(0)
			if i < len(s) {
				got = s[i]
			}
			if got != want {
				t.Fatalf("byte %d of %q is %#x, memory has %#x", i, s, got, want)
			}
		}
	})
}

func FuzzParseSyscallList(f *testing.F) {
	for _, seed := range []string{"mount", "@mount;keyring", " bpf ", "conect", "@", "", "@@mount", strings.Repeat("a", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseSyscallList(strings.Split(s, ";"))
		if err != nil {
			return
		}
		// What was accepted can be denied, and is then in force.
		ds, err := Denials(nil, list, SyscallList{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (Overlay{Deny: ds}).Assemble(); err != nil {
			t.Fatalf("%q was accepted, but: %v", s, err)
		}
		if again, err := ParseSyscallList(list.Strings()); err != nil || len(again.Strings()) != len(list.Strings()) {
			t.Fatalf("%q does not survive being printed: %v", s, err)
		}
	})
}

func FuzzProcFiles(f *testing.F) {
	f.Add([]byte("12 (a) b) c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1"))
	f.Add([]byte("Name:\tx\nTgid:\t12\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseStat(b)
		_, _, _ = parseTracing(b)
		_, _ = parseEnvironmentEnd(b)
		_, _ = parseTgid(b)
	})
}

func TestProcFiles(t *testing.T) {
	if got, err := parseStat([]byte("12 (a) b) c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1\n")); err != nil || got != (taskStat{'S', 1, 777}) {
		t.Errorf("stat %v, %v", got, err)
	}
	if got, err := parseTgid([]byte("Name:\tTgid: 5\nTgid:\t12\nPid:\t13\n")); err != nil || got != 12 {
		t.Errorf("thread group %d, %v", got, err)
	}
	for _, bad := range []string{"", "12 a S", "12 (a) S 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q has a start time", bad)
		}
		if _, err := parseTgid([]byte(bad)); err == nil {
			t.Errorf("%q has a thread group", bad)
		}
	}
}
