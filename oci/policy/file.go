package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds configuration and profiles, in bytes.
const maxFile = 1 << 20

// overflowUID owns, inside a user namespace, what belongs to an id that is not
// mapped there (user_namespaces(7)).
const overflowUID = 65534

// readFile reads a file that the operator must be the author of. Errors name
// the file; that of an absent one wraps fs.ErrNotExist.
func readFile(name string) ([]byte, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer file.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("%s: stat: %w", name, err)
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s: not a regular file", name)
	case stat.Mode&unix.S_IWOTH != 0:
		return nil, fmt.Errorf("%s: writable by everybody", name)
	case !trustedOwner(stat.Uid):
		return nil, fmt.Errorf("%s: owned by user %d, expected root or the caller", name, stat.Uid)
	case stat.Size > maxFile:
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return data, nil
}

// trustedOwner reports whether the policy of a file's owner is to be followed.
// In a user namespace of a rootless engine, the host's root has no id.
func trustedOwner(uid uint32) bool {
	if uid == 0 || int(uid) == os.Geteuid() {
		return true
	}
	return uid == overflowUID && inUserNamespace()
}

// inUserNamespace reports whether the caller is outside the initial user
// namespace, which maps every id to itself.
func inUserNamespace() bool {
	mappings, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	fields := strings.Fields(string(mappings))
	return len(fields) != 3 || fields[0] != "0" || fields[1] != "0" || fields[2] != "4294967295"
}
