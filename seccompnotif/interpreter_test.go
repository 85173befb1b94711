package seccompnotif

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update after a look at it):\n%s", path, got)
	}
}

// filterVM runs a filter without a kernel.
type filterVM struct {
	vm *bpf.VM
}

func newVM(t testing.TB, program []unix.SockFilter) filterVM {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(program))
	for i, f := range program {
		raw[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("the program has instructions that cannot be disassembled: %v", instructions)
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return filterVM{vm}
}

// run returns the filter's answer.
func (f filterVM) run(t testing.TB, d seccompData) uint32 {
	t.Helper()
	// The interpreter loads words in network order, as a socket filter would find them; the kernel loads a seccomp filter's in
	// the machine's. Both are served if each word is written in network order.
	var b []byte
	word := func(w uint32) { b = binary.BigEndian.AppendUint32(b, w) }
	word(uint32(d.nr))
	word(d.arch)
	for _, q := range append([]uint64{d.ip}, d.args[:]...) {
		word(uint32(q))
		word(uint32(q >> 32))
	}
	r, err := f.vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(r)
}

func number(t testing.TB, name string) int32 {
	t.Helper()
	nr, present, _ := SyscallNumber(name)
	if !present {
		t.Fatalf("no system call %s", name)
	}
	return int32(nr)
}

func answer(ret uint32) string {
	switch ret & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW:
		return "allow"
	case unix.SECCOMP_RET_USER_NOTIF:
		return "notify"
	case unix.SECCOMP_RET_ERRNO:
		return errnoLabel(unix.Errno(ret & unix.SECCOMP_RET_DATA))
	}
	return fmt.Sprintf("%#x", ret)
}
