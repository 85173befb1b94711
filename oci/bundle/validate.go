package bundle

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Versions of the runtime specification that are understood: this major
// version, and minor versions up to this one.
const (
	knownMajor    = 1
	knownMinorMax = 3
)

// validator gathers the warnings of one validation.
type validator struct {
	warnings []string
}

func (v *validator) warn(field, format string, args ...any) {
	v.warnings = append(v.warnings, field+": "+fmt.Sprintf(format, args...))
}

// Validate checks a spec by itself, without its root file system: see the
// package documentation. It makes relative mount destinations absolute, and
// returns warnings for the log. The first fault found is the error, of type
// *FieldError without a file.
//
// The one thing it reads is whether a network namespace that sysctls are meant
// for is the caller's own.
func Validate(spec *specs.Spec) (warnings []string, err error) {
	v := &validator{}
	for _, check := range []func(*specs.Spec) error{
		checkVersion,
		checkUnsupported,
		v.checkSpecProcess,
		checkAnnotations,
		checkRoot,
		checkNames,
		v.checkMounts,
		checkHooks,
		checkNamespaces,
		v.checkMappings,
		checkTimeOffsets,
		checkNetDevices,
		checkPaths,
		checkPropagation,
		checkSysctls,
		checkDevices,
		v.checkResources,
		checkSeccomp,
		checkMemoryPolicy,
		v.checkPersonality,
	} {
		if err := check(spec); err != nil {
			return nil, err
		}
	}
	return v.warnings, nil
}

// checkVersion accepts 1.0.0 to 1.3.x, pre-releases ("1.0.2-dev", "1.0.0-rc5")
// and build metadata ("1.2.0+dev") included.
func checkVersion(spec *specs.Spec) error {
	const field = "ociVersion"
	if spec.Version == "" {
		return missing(field)
	}
	release, _, _ := strings.Cut(spec.Version, "+")
	release, _, _ = strings.Cut(release, "-")
	numbers := strings.Split(release, ".")
	if len(numbers) != 3 {
		return invalid(field, "%q is not a version", spec.Version)
	}
	var version [3]uint64
	for i, number := range numbers {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return invalid(field, "%q is not a version", spec.Version)
		}
		version[i] = n
	}
	if version[0] != knownMajor || version[1] > knownMinorMax {
		return invalid(field, "unknown version %q, known are %d.0 to %d.%d",
			spec.Version, knownMajor, knownMajor, knownMinorMax)
	}
	return nil
}

func checkAnnotations(spec *specs.Spec) error {
	if _, there := spec.Annotations[""]; there {
		return invalid("annotations", "an empty key")
	}
	return nil
}

func checkRoot(spec *specs.Spec) error {
	if spec.Root == nil {
		return missing("root")
	}
	if spec.Root.Path == "" {
		return missing("root.path")
	}
	return nil
}

// checkPaths checks linux.maskedPaths and linux.readonlyPaths.
func checkPaths(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	for _, list := range []struct {
		field string
		paths []string
	}{
		{"linux.maskedPaths", spec.Linux.MaskedPaths},
		{"linux.readonlyPaths", spec.Linux.ReadonlyPaths},
	} {
		if len(list.paths) > 0 && namespace(spec, specs.MountNamespace) == nil {
			return invalid(list.field, "needs a mount namespace")
		}
		for i, p := range list.paths {
			if !path.IsAbs(p) {
				return invalid(at(list.field, i), "%q is not absolute", p)
			}
		}
	}
	return nil
}

func checkPropagation(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	switch spec.Linux.RootfsPropagation {
	case "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		return nil
	}
	return invalid("linux.rootfsPropagation",
		"unknown value %q, known are private, slave, shared, unbindable, each also with r before it", spec.Linux.RootfsPropagation)
}

// at names an element of an array.
func at(field string, index int) string {
	return field + "[" + strconv.Itoa(index) + "]"
}
