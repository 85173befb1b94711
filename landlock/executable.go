package landlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// interpreters is how many interpreters of interpreters the kernel follows (exec_binprm in fs/exec.c).
const interpreters = 5

// ExecutableError says that the path lists do not let a program be executed.
type ExecutableError struct {
	Program string // what is to be executed
	Needs   string // what must be readable and executable for that: the program itself, or an interpreter
}

func (e *ExecutableError) Error() string {
	if e.Needs == e.Program {
		return fmt.Sprintf("filesystem.read: %s: the lists do not let it be executed", e.Program)
	}
	return fmt.Sprintf("filesystem.read: %s: the lists do not let its interpreter %s be executed", e.Program, e.Needs)
}

// Executes says whether the rules let a file at a path be executed, by names alone: path and rules must be free of links,
// and of directories that are bound in two places. [Ruleset.CheckExecutable] needs neither.
func (r Ruleset) Executes(name string) bool {
	var rights Access
	for at := path.Clean(name); ; at = path.Dir(at) {
		for _, rule := range r.Paths {
			if rule.Path == at {
				rights |= rule.Access
			}
		}
		if at == "/" || at == "." {
			return rights.Has(execution & r.Handled.FS)
		}
	}
}

// CheckExecutable says whether the rules let a container execute its program, its interpreter and that one's interpreter
// included. The candidates are the absolute paths at which the program is looked for, in order; the first that is a file
// with an execute bit is the program. None is an error that wraps fs.ErrNotExist, or the reason why a candidate cannot be
// opened; what the rules forbid is an [*ExecutableError].
//
// Landlock judges inodes on the way from the file to the root, and so does this: names, links and bind mounts make no
// difference. A file that the kernel would refuse for other reasons is left to the kernel.
func (r Ruleset) CheckExecutable(open Opener, candidates ...string) error {
	program, fd, err := find(open, candidates)
	if err != nil {
		return err
	}
	if r.WholeRoot() {
		return unix.Close(fd)
	}
	granted, err := r.identify(open)
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	for file, depth := program, 0; ; depth++ {
		allowed, err := r.executes(open, granted, fd, file)
		if err == nil && !allowed {
			err = &ExecutableError{Program: program, Needs: file}
		}
		var next string
		if err == nil && depth < interpreters {
			next = interpreterOf(fd)
		}
		_ = unix.Close(fd)
		if err != nil || next == "" || !path.IsAbs(next) {
			return err
		}
		file = next
		if fd, err = open(file); err != nil {
			return fmt.Errorf("%s: interpreter %s: %w", program, file, bare(err))
		}
	}
}

// find opens the program among its candidates.
func find(open Opener, candidates []string) (program string, fd int, err error) {
	failed := error(fs.ErrNotExist)
	for _, candidate := range candidates {
		fd, err := open(candidate)
		if err != nil {
			if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
				failed = bare(err)
			}
			continue
		}
		var stat unix.Stat_t
		if unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Mode&0o111 != 0 {
			return candidate, fd, nil
		}
		_ = unix.Close(fd)
		failed = unix.EACCES
	}
	if len(candidates) == 0 {
		return "", -1, fmt.Errorf("no program: %w", failed)
	}
	return "", -1, fmt.Errorf("%s: %w", candidates[0], failed)
}

// identity is what a file is known by, whatever its name.
type identity struct{ dev, ino uint64 }

// identify finds the objects that the rules are for.
func (r Ruleset) identify(open Opener) (map[identity]Access, error) {
	granted := make(map[identity]Access, len(r.Paths))
	for _, rule := range r.Paths {
		if rule.Access&execution == 0 {
			continue
		}
		fd, err := open(rule.Path)
		if err != nil {
			if rule.Optional {
				continue
			}
			return nil, &PathError{Source: rule.Source, Path: rule.Path, Err: bare(err)}
		}
		var stat unix.Stat_t
		err = unix.Fstat(fd, &stat)
		if err == nil && rule.Kind != AnyKind {
			var is bool
			if is, err = isKind(fd, &stat, rule.Kind); err == nil && !is {
				rule.Access = 0
			}
		}
		_ = unix.Close(fd)
		if err != nil {
			return nil, &PathError{Source: rule.Source, Path: rule.Path, Err: err}
		}
		granted[identify(&stat)] |= rule.Access
	}
	return granted, nil
}

func identify(stat *unix.Stat_t) identity {
	return identity{dev: uint64(stat.Dev), ino: stat.Ino} //nolint:unconvert // the type differs between architectures
}

// executes gathers the rights of an opened file and of the directories above the name it really has.
func (r Ruleset) executes(open Opener, granted map[identity]Access, fd int, file string) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return false, fmt.Errorf("%s: fstat: %w", file, err)
	}
	rights := granted[identify(&stat)]
	name, err := realPath(open, fd)
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	if name == "" {
		name = file
	}
	for at := path.Dir(name); !rights.Has(execution & r.Handled.FS); at = path.Dir(at) {
		above, err := open(at)
		if err != nil {
			return false, fmt.Errorf("%s: %s: %w", file, at, bare(err))
		}
		err = unix.Fstat(above, &stat)
		_ = unix.Close(above)
		if err != nil {
			return false, fmt.Errorf("%s: fstat: %w", at, err)
		}
		rights |= granted[identify(&stat)]
		if at == "/" {
			break
		}
	}
	return rights.Has(execution & r.Handled.FS), nil
}

// realPath gives the name, free of links, that an opened file has from the container's root. It is "" where there is none:
// the file was removed, or the opener took it from elsewhere.
func realPath(open Opener, fd int) (string, error) {
	root, err := open("/")
	if err != nil {
		return "", fmt.Errorf("/: %w", bare(err))
	}
	defer func() { _ = unix.Close(root) }()
	above, err := os.Readlink(descriptorPath(root))
	if err != nil {
		return "", err
	}
	name, err := os.Readlink(descriptorPath(fd))
	if err != nil {
		return "", err
	}
	// A root that is the root of its mount namespace is called "/" from wherever one looks.
	rest, beneath := strings.CutPrefix(name, strings.TrimSuffix(above, "/")+"/")
	if !beneath {
		return "", nil
	}
	return "/" + rest, nil
}

// interpreterOf reads what an opened executable names as its interpreter; "" where that cannot be known, which the kernel
// will judge.
func interpreterOf(fd int) string {
	readable, err := unix.Open(descriptorPath(fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return ""
	}
	file := os.NewFile(uintptr(readable), "executable")
	defer func() { _ = file.Close() }()
	name, err := Interpreter(file)
	if err != nil {
		return ""
	}
	return name
}

// descriptorPath is the link through which a descriptor is opened again, see proc_pid_fd(5).
func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
