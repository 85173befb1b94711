package state

import (
	"errors"
	"fmt"
)

// The errors of looking up a container, in runc's words, which callers of runtimes look for.
var (
	ErrInvalidID = errors.New("invalid container ID format")
	ErrExist     = errors.New("container with given ID already exists")
	ErrNotExist  = errors.New("container does not exist")
)

// maxID is the longest file name Linux takes (NAME_MAX, linux/limits.h): the id names a directory.
const maxID = 255

// ValidateID accepts what runc accepts: ASCII letters, digits, '_', '+', '-' and '.', at least one and at most 255 of
// them, but not "." and "..". The error is ErrInvalidID.
func ValidateID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidID)
	case len(id) > maxID:
		return fmt.Errorf("%w: it has %d bytes, of at most %d", ErrInvalidID, len(id), maxID)
	case id == "." || id == "..":
		return fmt.Errorf("%w: %q", ErrInvalidID, id)
	}
	for i := range len(id) {
		if !allowed(id[i]) {
			return fmt.Errorf("%w: %q", ErrInvalidID, id)
		}
	}
	return nil
}

func allowed(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '_' || c == '+' || c == '-' || c == '.'
}
