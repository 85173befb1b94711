package bundle

import (
	"math"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Bounds of what the kernel takes.
const (
	maxUmask       = 0o777
	minOOMScoreAdj = -1000          // OOM_SCORE_ADJ_MIN, linux/oom.h
	maxOOMScoreAdj = 1000           // OOM_SCORE_ADJ_MAX
	maxID          = math.MaxUint32 // (uid_t)-1 means "no change" to setresuid(2)
)

// LoadProcess reads and validates a process document, as "exec --process" takes
// it. The checks are those of a spec's process; warnings as in Bundle.
func LoadProcess(file string) (process *specs.Process, warnings []string, err error) {
	data, err := readDocument(file)
	if err != nil {
		return nil, nil, err
	}
	process, err = decode[specs.Process](data)
	if err != nil {
		return nil, nil, inFile(err, file)
	}
	warnings, err = ValidateProcess(process)
	if err != nil {
		return nil, nil, inFile(err, file)
	}
	return process, warnings, nil
}

// ValidateProcess checks a process that stands alone.
func ValidateProcess(process *specs.Process) (warnings []string, err error) {
	v := &validator{}
	if err := v.checkProcess("", process); err != nil {
		return nil, err
	}
	return v.warnings, nil
}

// checkSpecProcess checks the spec's process. The specification wants one at
// start; as with runc, create already needs it.
func (v *validator) checkSpecProcess(spec *specs.Spec) error {
	if spec.Process == nil {
		return missing("process")
	}
	return v.checkProcess("process.", spec.Process)
}

func (v *validator) checkProcess(prefix string, process *specs.Process) error {
	if err := checkUnsupportedProcess(prefix, process); err != nil {
		return err
	}
	switch {
	case len(process.Args) == 0:
		return missing(prefix + "args")
	case process.Args[0] == "":
		return invalid(prefix+"args[0]", "empty, expected the program to run")
	case process.Cwd == "":
		return missing(prefix + "cwd")
	case !path.IsAbs(process.Cwd):
		return invalid(prefix+"cwd", "%q is not absolute", process.Cwd)
	}
	for i, entry := range process.Env {
		if err := checkEnv(entry); err != "" {
			return invalid(at(prefix+"env", i), "%s", err)
		}
	}
	if size := process.ConsoleSize; size != nil && process.Terminal {
		if size.Height > math.MaxUint16 || size.Width > math.MaxUint16 {
			return invalid(prefix+"consoleSize", "%d by %d is more than a terminal can have", size.Width, size.Height)
		}
	}
	if adj := process.OOMScoreAdj; adj != nil && (*adj < minOOMScoreAdj || *adj > maxOOMScoreAdj) {
		return invalid(prefix+"oomScoreAdj", "%d is not from %d to %d", *adj, minOOMScoreAdj, maxOOMScoreAdj)
	}
	if err := checkScheduling(prefix, process); err != nil {
		return err
	}
	if err := checkUser(prefix+"user.", &process.User); err != nil {
		return err
	}
	if err := checkRlimits(prefix+"rlimits", process.Rlimits); err != nil {
		return err
	}
	v.checkCapabilities(prefix+"capabilities", process.Capabilities)
	return nil
}

// checkEnv returns what is wrong with an environment entry, or "".
func checkEnv(entry string) string {
	switch strings.IndexByte(entry, '=') {
	case -1:
		return "\"" + entry + "\" has no \"=\""
	case 0:
		return "\"" + entry + "\" has no name before \"=\""
	}
	return ""
}

func checkUser(prefix string, user *specs.User) error {
	const reserved = "%d is reserved and no id"
	if user.UID == maxID {
		return invalid(prefix+"uid", reserved, user.UID)
	}
	if user.GID == maxID {
		return invalid(prefix+"gid", reserved, user.GID)
	}
	for i, gid := range user.AdditionalGids {
		if gid == maxID {
			return invalid(at(prefix+"additionalGids", i), reserved, gid)
		}
	}
	if user.Umask != nil && *user.Umask > maxUmask {
		return invalid(prefix+"umask", "%d is more than %d (octal 777)", *user.Umask, maxUmask)
	}
	return nil
}
