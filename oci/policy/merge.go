package policy

import (
	"fmt"
	"slices"
	"strings"
)

// standing says how far a source may go beyond the built-in defaults.
type standing int

const (
	// bound may only tighten.
	bound standing = iota
	// first may state what nobody stated before: the first profile.
	first
	// free may state anything: the operator's configuration.
	free
)

// merger builds a policy, source by source, weakest first.
type merger struct {
	grant    []string
	policy   Policy
	readable []string // of sources so far, if policy.Filesystem.Restricted
	writable []string
}

// add merges one source.
func (m *merger) add(l *layer, as standing) error {
	m.addPaths(l)
	for i := range l.settings {
		s := &l.settings[i]
		if s.key.Name == "profile" {
			continue // chosen before, not merged
		}
		if err := m.addSetting(s, as); err != nil {
			return l.locate(err, s.key.Name, s.line)
		}
		m.remember(s.key, l.origin(s.line))
	}
	return nil
}

// addSetting merges one key but filesystem.read and filesystem.write.
func (m *merger) addSetting(s *setting, as standing) error {
	p, granted := &m.policy, s.key.matches(m.grant)
	switch s.key.Name {
	case "isolation":
		if granted || p.Isolation != Namespaces {
			p.Isolation = Isolation(s.text)
		}
	case "filesystem.deny":
		p.Filesystem.Deny = addUp(p.Filesystem.Deny, s.texts, granted)
	case "filesystem.mount":
		return m.addMounts(s.mounts, granted)
	case "network.allow":
		if granted {
			p.Network.Allow = nil
		}
		p.Network.Allow = append(p.Network.Allow, s.texts)
	case "network.deny":
		p.Network.Deny = addUp(p.Network.Deny, s.texts, granted)
	case "network.allow_bind":
		if granted {
			p.Network.AllowBind = nil
		}
		p.Network.AllowBind = append(p.Network.AllowBind, s.texts)
	case "network.deny_bind":
		p.Network.DenyBind = addUp(p.Network.DenyBind, s.texts, granted)
	case "network.port_remap":
		p.Network.PortRemap = s.truth || p.Network.PortRemap && !granted
	case "limits.memory":
		lower(&p.Limits.Memory, s.number, granted)
	case "limits.processes":
		lower(&p.Limits.Processes, s.number, granted)
	case "limits.open_files":
		lower(&p.Limits.OpenFiles, s.number, granted)
	case "limits.cpu":
		lower(&p.Limits.CPU, s.number, granted)
	case "limits.cpu_cores":
		return m.addCores(s.cpus, granted)
	case "policy.socket":
		if p.Socket != "" && p.Socket != s.text && !granted {
			return wrong(s.text, "an earlier source has the agent at "+p.Socket)
		}
		p.Socket = s.text
	case "syscalls.deny":
		p.Syscalls.Deny = addUp(p.Syscalls.Deny, s.texts, granted)
	case "syscalls.allow":
		return m.addAllowedSyscalls(s.texts, granted, as)
	default:
		if name, is := strings.CutPrefix(s.key.Name, "protection."); is {
			return m.addProtection(name, Level(s.text), granted, as)
		}
	}
	return nil
}

// addPaths merges the two path lists of a source, which are one statement: the
// source alone lets read what either names and write what the second names.
func (m *merger) addPaths(l *layer) {
	read, write := l.find("filesystem.read"), l.find("filesystem.write")
	if read == nil && write == nil {
		return
	}
	var readList, writeList []string
	readGranted, writeGranted := false, false
	if read != nil {
		readList, readGranted = read.texts, read.key.matches(m.grant)
	}
	if write != nil {
		writeList, writeGranted = write.texts, write.key.matches(m.grant)
	}
	either := unitePaths(readList, writeList)
	if !m.policy.Filesystem.Restricted {
		m.policy.Filesystem.Restricted = true
		m.readable, m.writable = either, unitePaths(writeList, nil)
		return
	}
	m.readable = intersectPaths(m.readable, either)
	m.writable = intersectPaths(m.writable, writeList)
	if readGranted {
		m.readable = unitePaths(m.readable, readList)
	}
	if writeGranted {
		m.readable = unitePaths(m.readable, writeList)
		m.writable = unitePaths(writeList, nil)
	}
}

func (m *merger) addMounts(mounts []Mount, granted bool) error {
	for _, mount := range mounts {
		i := findMount(m.policy.Filesystem.Mounts, mount.Container)
		switch {
		case i < 0:
			m.policy.Filesystem.Mounts = append(m.policy.Filesystem.Mounts, mount)
		case granted:
			m.policy.Filesystem.Mounts[i] = mount
		case m.policy.Filesystem.Mounts[i] != mount:
			return wrong(mount.Container, "an earlier source mounts "+m.policy.Filesystem.Mounts[i].Host+" there")
		}
	}
	return nil
}

func (m *merger) addCores(cpus CPUSet, granted bool) error {
	limits := &m.policy.Limits
	if granted || limits.CPUCores == nil {
		limits.CPUCores = cpus
		return nil
	}
	common := limits.CPUCores.intersect(cpus)
	if len(common) == 0 {
		return wrong(cpus.String(), "no CPU in common with the earlier "+limits.CPUCores.String())
	}
	limits.CPUCores = common
	return nil
}

func (m *merger) addAllowedSyscalls(names []string, granted bool, as standing) error {
	_, stated := m.policy.Provenance["syscalls.allow"]
	if granted || as == free || as == first && !stated {
		m.policy.Syscalls.Allow = orNil(names)
		return nil
	}
	for _, name := range names {
		if !slices.Contains(m.policy.Syscalls.Allow, name) {
			return wrong(name, "would lift a denial, so the operator's annotations.grant must list syscalls.allow")
		}
	}
	m.policy.Syscalls.Allow = orNil(names)
	return nil
}

func (m *merger) addProtection(name string, level Level, granted bool, as standing) error {
	_, stated := m.policy.Protections[name]
	current := m.policy.Protection(name)
	if level.rank() < current.rank() && !granted && as != free && !(as == first && !stated) {
		return wrong(string(level), fmt.Sprintf(
			"would loosen it from %s, so the operator's annotations.grant must list protection.%s", current, name))
	}
	if m.policy.Protections == nil {
		m.policy.Protections = make(map[string]Level)
	}
	m.policy.Protections[name] = level
	return nil
}

// degrade makes degrade the default of protections.
func (m *merger) degrade(names []string) {
	for _, name := range names {
		if m.policy.Protections == nil {
			m.policy.Protections = make(map[string]Level)
		}
		m.policy.Protections[name] = Degrade
	}
}

// remember records where a key came from.
func (m *merger) remember(key *Key, origin string) {
	if m.policy.Provenance == nil {
		m.policy.Provenance = make(map[string][]string)
	}
	if key.matches(m.grant) && key.Name != "filesystem.mount" {
		m.policy.Provenance[key.Name] = nil // it has replaced what was before
	}
	m.policy.Provenance[key.Name] = append(m.policy.Provenance[key.Name], origin)
	if key.Name == "network.deny" {
		m.rememberDenied(key.matches(m.grant), origin)
	}
}

// rememberDenied records where the deny rules came from that a source has added, or put in the place of all others.
func (m *merger) rememberDenied(replaced bool, origin string) {
	n := &m.policy.Network
	if replaced {
		n.DenyFrom = nil
	}
	for len(n.DenyFrom) < len(n.Deny) {
		n.DenyFrom = append(n.DenyFrom, origin)
	}
}

// finish returns the merged policy.
func (m *merger) finish() Policy {
	if m.policy.Filesystem.Restricted {
		m.policy.Filesystem.Write = orNil(m.writable)
		m.policy.Filesystem.Read = orNil(slices.DeleteFunc(m.readable, func(path string) bool {
			return anyCovers(m.writable, path)
		}))
	}
	if m.policy.Filesystem.Deny != nil {
		m.policy.Filesystem.Deny = orNil(normalizePaths(m.policy.Filesystem.Deny))
	}
	return m.policy
}

// orNil makes an empty list nil, as its JSON form decodes.
func orNil(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// addUp appends what a list lacks of another, or is replaced by it.
func addUp(list, more []string, replace bool) []string {
	if replace {
		return orNil(slices.Clone(more))
	}
	seen := make(map[string]bool, len(list)+len(more))
	for _, element := range list {
		seen[element] = true
	}
	for _, element := range more {
		if !seen[element] {
			seen[element] = true
			list = append(list, element)
		}
	}
	return list
}

// lower takes the lower of two limits, of which 0 is none, or the new one.
func lower(limit *int64, number int64, replace bool) {
	if replace || *limit == 0 || number < *limit {
		*limit = number
	}
}
