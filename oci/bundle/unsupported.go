package bundle

import "github.com/opencontainers/runtime-spec/specs-go"

// checkUnsupported refuses what the specification defines and this version does
// not implement, so that nobody believes it to be in force. Fields of a process
// are in checkProcess, for they concern exec too.
func checkUnsupported(spec *specs.Spec) error {
	for _, section := range []struct {
		field   string
		present bool
	}{
		{"solaris", spec.Solaris != nil},
		{"windows", spec.Windows != nil},
		{"vm", spec.VM != nil},
		{"zos", spec.ZOS != nil},
		{"freebsd", spec.FreeBSD != nil},
	} {
		if section.present {
			return unsupported(section.field)
		}
	}
	linux := spec.Linux
	if linux == nil {
		return nil
	}
	for _, section := range []struct {
		field   string
		present bool
	}{
		{"linux.intelRdt", linux.IntelRdt != nil},
		{"linux.mountLabel", linux.MountLabel != ""},
	} {
		if section.present {
			return unsupported(section.field)
		}
	}
	return nil
}

// checkUnsupportedProcess is checkUnsupported for a process, whose fields are
// named with prefix before them.
func checkUnsupportedProcess(prefix string, process *specs.Process) error {
	for _, section := range []struct {
		field   string
		present bool
	}{
		{"selinuxLabel", process.SelinuxLabel != ""},
	} {
		if section.present {
			return unsupported(prefix + section.field)
		}
	}
	return nil
}
