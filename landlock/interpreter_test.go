package landlock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// elfFile makes an ELF executable with nothing in it but program headers and the name of an interpreter.
func elfFile(t testing.TB, class elf.Class, interpreter string) []byte {
	t.Helper()
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	name := interpreter + "\x00"
	var parts []any
	if class == elf.ELFCLASS64 {
		header := elf.Header64{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Phentsize: 56, Phnum: 2, Phoff: 64}
		parts = []any{header, elf.Prog64{Type: uint32(elf.PT_LOAD)}, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 64 + 2*56, Filesz: uint64(len(name))}}
	} else {
		header := elf.Header32{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_386), Phentsize: 32, Phnum: 2, Phoff: 52}
		parts = []any{header, elf.Prog32{Type: uint32(elf.PT_LOAD)}, elf.Prog32{Type: uint32(elf.PT_INTERP), Off: 52 + 2*32, Filesz: uint32(len(name))}}
	}
	var file bytes.Buffer
	for _, part := range append(parts, []byte(name)) {
		if err := binary.Write(&file, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return file.Bytes()
}

func TestInterpreter(t *testing.T) {
	truncated := elfFile(t, elf.ELFCLASS64, "/lib/ld.so")
	bigEndian := elfFile(t, elf.ELFCLASS64, "/lib/ld.so")
	bigEndian[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	noNUL := elfFile(t, elf.ELFCLASS64, "/lib/ld.so")
	noNUL[len(noNUL)-1] = 'x'
	manyHeaders := elfFile(t, elf.ELFCLASS64, "/lib/ld.so")
	binary.LittleEndian.PutUint16(manyHeaders[56:], 0xffff)
	for name, c := range map[string]struct {
		file []byte
		want string
		bad  bool
	}{
		"script":             {file: []byte("#!/bin/sh\necho"), want: "/bin/sh"},
		"script, argument":   {file: []byte("#! \t/usr/bin/env  -S python3\n"), want: "/usr/bin/env"},
		"script, no newline": {file: []byte("#!/bin/sh"), want: "/bin/sh"},
		"script, relative":   {file: []byte("#!bin/sh\n"), want: "bin/sh"},
		"script, nothing":    {file: []byte("#!  \n/bin/sh"), bad: true},
		"script, too long":   {file: []byte("#!/" + strings.Repeat("a", 300) + "\n"), bad: true},
		"script, long arg":   {file: []byte("#!/bin/sh " + strings.Repeat("a", 300) + "\n"), want: "/bin/sh"},
		"empty":              {},
		"text":               {file: []byte("hello")},
		"elf 64":             {file: elfFile(t, elf.ELFCLASS64, "/lib64/ld-linux-x86-64.so.2"), want: "/lib64/ld-linux-x86-64.so.2"},
		"elf 32":             {file: elfFile(t, elf.ELFCLASS32, "/lib/ld-linux.so.2"), want: "/lib/ld-linux.so.2"},
		"elf, empty name":    {file: elfFile(t, elf.ELFCLASS64, ""), bad: true},
		"elf, long name":     {file: elfFile(t, elf.ELFCLASS64, strings.Repeat("a", unix.PathMax)), bad: true},
		"elf, truncated":     {file: truncated[:100], bad: true},
		"elf, header only":   {file: truncated[:20], bad: true},
		"elf, magic only":    {file: truncated[:4], bad: true},
		"elf, big-endian":    {file: bigEndian, bad: true},
		"elf, no NUL":        {file: noNUL, bad: true},
		"elf, many headers":  {file: manyHeaders, bad: true},
	} {
		got, err := Interpreter(bytes.NewReader(c.file))
		if got != c.want || errors.Is(err, ErrNotExecutable) != c.bad {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzInterpreter(f *testing.F) {
	f.Add(elfFile(f, elf.ELFCLASS64, "/lib64/ld-linux-x86-64.so.2"))
	f.Add(elfFile(f, elf.ELFCLASS32, "/lib/ld-linux.so.2"))
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		name, err := Interpreter(bytes.NewReader(file))
		if err != nil && name != "" {
			t.Fatalf("%q together with %v", name, err)
		}
		if len(name) >= unix.PathMax || strings.ContainsRune(name, 0) {
			t.Fatalf("%q is no name", name)
		}
		// Whatever is found is really in the file.
		if !bytes.Contains(file, []byte(name)) {
			t.Fatalf("%q is not in the file", name)
		}
	})
}
