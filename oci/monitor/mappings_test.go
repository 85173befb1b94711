package monitor

import (
	"bufio"
	"slices"
	"strings"
	"testing"
)

func TestParseSmaps(t *testing.T) {
	const smaps = `00401000-00899000 r-xp 00001000 fe:00 10008931                           /usr/sbin/a b
Rss:                3452 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00d23000-00d28000 r--p 00922000 fe:00 10008931                           /usr/sbin/a b
Anonymous:             8 kB
00d28000-00d58000 rw-p 00927000 fe:00 10008931                           /usr/sbin/a b
Anonymous:             0 kB
209b3000-209d5000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`
	got := parseSmaps(bufio.NewScanner(strings.NewReader(smaps)))
	// Not the table with pages of its own, nothing writable, nothing that is no file.
	if want := []mapping{{0x401000, 0x899000}}; !slices.Equal(got, want) {
		t.Errorf("%#x, want %#x", got, want)
	}
}
