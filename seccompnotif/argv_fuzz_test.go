package seccompnotif

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzArgv reads an argument vector out of memory that a guest has filled, and compares it with what a program got.
func FuzzArgv(f *testing.F) {
	f.Add([]byte("sh\x00-c\x00echo\x00"), uint64(0), 3, true)
	f.Add([]byte(strings.Repeat("x", 300)+"\x00"), uint64(3), 70, true)
	f.Add([]byte{0}, uint64(1<<63), 1, false)
	f.Fuzz(func(t *testing.T, text []byte, skew uint64, n int, end bool) {
		const base = 0x10000
		if n < 0 || n > 2000 || len(text) > 1<<16 {
			t.Skip()
		}
		// Pointers to every string in turn, and the strings behind them.
		starts := []uint64{0}
		for i, c := range text {
			if c == 0 && i+1 < len(text) {
				starts = append(starts, uint64(i+1))
			}
		}
		strs := uint64(base + (n+1)*pointerSize)
		var memory []byte
		for i := range n {
			memory = binary.NativeEndian.AppendUint64(memory, strs+starts[i%len(starts)]+skew)
		}
		if end {
			memory = binary.NativeEndian.AppendUint64(memory, 0)
		}
		memory = append(memory, text...)
		read := func(at uint64, into []byte) error {
			if len(into) == 0 || len(into) > smallestPage {
				t.Fatalf("a read of %d bytes", len(into))
			}
			if at/smallestPage != (at+uint64(len(into)-1))/smallestPage && at%pointerSize == 0 {
				t.Fatalf("a read of %d bytes at %#x crosses a page", len(into), at)
			}
			// Whole pages are mapped.
			last := (base + uint64(len(memory)) + smallestPage - 1) / smallestPage
			for i := range into {
				switch a := at + uint64(i); {
				case a/smallestPage < base/smallestPage || a/smallestPage >= last:
					return unix.EFAULT
				case a < base || a-base >= uint64(len(memory)):
					into[i] = 0
				default:
					into[i] = memory[a-base]
				}
			}
			return nil
		}
		a, err := readArgv(base, read)
		if err != nil {
			return
		}
		if len(a.Args) != min(a.Total, MaxArgs) || a.Cut != (a.Total > MaxArgs || a.cut != 0) {
			t.Fatalf("%d of %d, cut %v", len(a.Args), a.Total, a.Cut)
		}
		for i, arg := range a.Args {
			if len(arg) > MaxArgBytes || strings.IndexByte(arg, 0) >= 0 || a.Truncated(i) && len(arg) != MaxArgBytes {
				t.Fatalf("argument %q, truncated: %v", arg, a.Truncated(i))
			}
		}
		if a.Cut {
			return
		}
		// A program that gets just that is what was judged, and one that gets anything else is not.
		var has argScanner
		for _, arg := range a.Args {
			has.write(append([]byte(arg), 0))
		}
		if a.Total == 0 {
			has.write([]byte{0})
		}
		if !(program{path: "p", argv: a}).became(&has) {
			t.Fatalf("%q is not what it was", a.Args)
		}
		has.write([]byte("more\x00"))
		if (program{path: "p", argv: a}).became(&has) {
			t.Fatalf("%q is what it was, with one more", a.Args)
		}
	})
}
