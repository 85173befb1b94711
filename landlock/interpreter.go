package landlock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// scriptLine is how much of a script the kernel looks at (BINPRM_BUF_SIZE in <linux/binfmts.h>).
	scriptLine = 256
	// programHeaders is the most the kernel reads of an executable's program headers (load_elf_phdrs in fs/binfmt_elf.c).
	programHeaders = 64 << 10
)

// ErrNotExecutable says that a file is neither a script nor an ELF executable that the kernel would accept.
var ErrNotExecutable = errors.New("not an executable that names its interpreter properly")

// Interpreter gives the program that the kernel loads along with an executable: what follows #! in a script, PT_INTERP in
// an ELF file, and "" where there is none (a static binary, or a format of somebody else's). The name may be relative.
//
// The file is the container's: no more than 64 KiB of it is held, and what the kernel would refuse is [ErrNotExecutable].
// Sources: execve(2), elf(5), fs/binfmt_script.c, fs/binfmt_elf.c.
func Interpreter(file io.ReaderAt) (string, error) {
	head := make([]byte, scriptLine)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return scriptInterpreter(head[2:], n == scriptLine)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return elfInterpreter(file, head)
	}
	return "", nil
}

// scriptInterpreter reads the line after #!. When the kernel's look ended before the line did, the name must still be whole.
func scriptInterpreter(line []byte, cut bool) (string, error) {
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line, cut = line[:end], false
	}
	line = bytes.TrimLeft(line, " \t")
	end := bytes.IndexAny(line, " \t\x00")
	if end < 0 && cut {
		return "", fmt.Errorf("#! line too long: %w", ErrNotExecutable)
	}
	if end >= 0 {
		line = line[:end]
	}
	if len(line) == 0 {
		return "", fmt.Errorf("#! names nothing: %w", ErrNotExecutable)
	}
	return string(line), nil
}

// elfInterpreter reads PT_INTERP. The kernels this runs on are little-endian; an executable that is not is none of theirs.
func elfInterpreter(file io.ReaderAt, head []byte) (string, error) {
	if len(head) < elf.EI_NIDENT || elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return "", fmt.Errorf("ELF header: %w", ErrNotExecutable)
	}
	var offset, count, size uint64
	var wide bool
	switch elf.Class(head[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		var header elf.Header64
		if !decode(head, &header) || int(header.Phentsize) != binary.Size(elf.Prog64{}) {
			return "", fmt.Errorf("ELF header: %w", ErrNotExecutable)
		}
		offset, count, size, wide = header.Phoff, uint64(header.Phnum), uint64(header.Phentsize), true
	case elf.ELFCLASS32:
		var header elf.Header32
		if !decode(head, &header) || int(header.Phentsize) != binary.Size(elf.Prog32{}) {
			return "", fmt.Errorf("ELF header: %w", ErrNotExecutable)
		}
		offset, count, size = uint64(header.Phoff), uint64(header.Phnum), uint64(header.Phentsize)
	default:
		return "", fmt.Errorf("ELF class: %w", ErrNotExecutable)
	}
	if count == 0 || count*size > programHeaders {
		return "", fmt.Errorf("ELF program headers: %w", ErrNotExecutable)
	}
	table := make([]byte, count*size)
	if !readAt(file, table, offset) {
		return "", fmt.Errorf("ELF program headers: %w", ErrNotExecutable)
	}
	for ; len(table) > 0; table = table[size:] {
		var where, length uint64
		var kind elf.ProgType
		if wide {
			var program elf.Prog64
			decode(table, &program)
			kind, where, length = elf.ProgType(program.Type), program.Off, program.Filesz
		} else {
			var program elf.Prog32
			decode(table, &program)
			kind, where, length = elf.ProgType(program.Type), uint64(program.Off), uint64(program.Filesz)
		}
		if kind != elf.PT_INTERP {
			continue
		}
		if length < 2 || length > unix.PathMax {
			return "", fmt.Errorf("PT_INTERP of %d bytes: %w", length, ErrNotExecutable)
		}
		name := make([]byte, length)
		if !readAt(file, name, where) || name[length-1] != 0 {
			return "", fmt.Errorf("PT_INTERP: %w", ErrNotExecutable)
		}
		text, _, _ := strings.Cut(string(name), "\x00")
		if text == "" {
			return "", fmt.Errorf("PT_INTERP: %w", ErrNotExecutable)
		}
		return text, nil
	}
	return "", nil
}

// decode fills a fixed-size value from the front of data.
func decode(data []byte, into any) bool {
	_, err := binary.Decode(data, binary.LittleEndian, into)
	return err == nil
}

// readAt fills a buffer from an offset that the file itself named.
func readAt(file io.ReaderAt, into []byte, offset uint64) bool {
	if offset > 1<<62 {
		return false
	}
	n, err := file.ReadAt(into, int64(offset))
	return n == len(into) && (err == nil || errors.Is(err, io.EOF))
}
