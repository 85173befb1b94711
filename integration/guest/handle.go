package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// handleIno32Gen is FILEID_INO32_GEN of linux/exportfs.h: an inode's number and its generation, which ext4 and others do not check if it is 0.
const handleIno32Gen = 1

// openByHandle reads a file that something may have been mounted over, by its inode's number, which the directory tells: no path is looked up.
func openByHandle(args []string) (string, error) {
	dir, name := filepath.Split(args[0])
	directory, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer directory.Close()
	inode, err := inodeOf(directory, name, args[1:])
	if err != nil {
		return "", err
	}
	handle := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(inode)), 0)
	fd, err := unix.OpenByHandleAt(int(directory.Fd()), unix.NewFileHandle(handleIno32Gen, handle), unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	content, err := io.ReadAll(file)
	return string(content), err
}

// inodeOf is the number that is asked for, or that of a name.
func inodeOf(directory *os.File, name string, asked []string) (uint64, error) {
	if len(asked) > 0 {
		return strconv.ParseUint(asked[0], 10, 64)
	}
	return inodeIn(directory, name)
}

// inodeIn is the number that a directory has for a name, whatever is mounted there.
func inodeIn(directory *os.File, name string) (uint64, error) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := unix.Getdents(int(directory.Fd()), buffer)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, fmt.Errorf("%s is not in %s", name, directory.Name())
		}
		for rest := buffer[:n]; len(rest) > 0; {
			// struct linux_dirent64: d_ino, d_off, d_reclen, d_type, d_name
			length := binary.NativeEndian.Uint16(rest[16:])
			if unix.ByteSliceToString(rest[19:length]) == name {
				return binary.NativeEndian.Uint64(rest), nil
			}
			rest = rest[length:]
		}
	}
}
