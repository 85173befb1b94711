package plan

import (
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandlock/sandlock-runtime/chroot"
	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// hostsPath is where the container looks names up.
const hostsPath = "/etc/hosts"

// HostsSource is the host path of what would be mounted as the container's /etc/hosts, for [Request.Hosts]; "" if nothing would. Docker and Kubernetes
// mount a file of their own there.
func HostsSource(b *bundle.Bundle, p policy.Policy) string {
	source := ""
	for _, m := range b.Spec.Mounts {
		if path.Clean("/"+m.Destination) == hostsPath && m.Source != "" {
			source = m.Source
		}
	}
	for _, m := range p.Filesystem.Mounts {
		if m.Container == hostsPath {
			source = m.Host
		}
	}
	if source != "" && !filepath.IsAbs(source) {
		source = filepath.Join(b.Path, source)
	}
	return source
}

// hostsFile is the container's /etc/hosts where its rules have names; none where they have not.
func hostsFile(pinned netfilter.Names, own string) []chroot.File {
	if len(pinned) == 0 {
		return nil
	}
	return []chroot.File{{Origin: keyAllow, Path: hostsPath, Content: hostsText(pinned, own)}}
}

// loopback are the names that every hosts file has, as hosts(5) shows them.
const (
	loopback4 = "127.0.0.1\tlocalhost\n"
	loopback6 = "::1\tlocalhost ip6-localhost ip6-loopback\n"
)

var loopbackNames = []string{"localhost", "ip6-localhost", "ip6-loopback"}

// hostsText is loopback, then what the rules' names stand for, then the lines of the file that the container would have had, but for what they say of
// any of these names.
func hostsText(pinned netfilter.Names, own string) string {
	var text strings.Builder
	text.WriteString("# Loopback, and the host names of network.allow as they were resolved when the container was created.\n")
	text.WriteString(loopback4 + loopback6)
	taken := slices.Clone(loopbackNames)
	for _, name := range slices.Sorted(maps.Keys(pinned)) {
		if slices.Contains(loopbackNames, name) {
			continue
		}
		taken = append(taken, name)
		for _, addr := range pinned[name] {
			text.WriteString(addr.String() + "\t" + name + "\n")
		}
	}
	var rest strings.Builder
	for line := range strings.Lines(own) {
		if line = withoutNames(strings.TrimRight(line, "\r\n"), taken); line != "" {
			rest.WriteString(line + "\n")
		}
	}
	if rest.Len() > 0 {
		text.WriteString("# The container's own:\n" + rest.String())
	}
	return text.String()
}

// withoutNames is a line of a hosts file without some names; "" where nothing is left of it.
func withoutNames(line string, names []string) string {
	entry, _, _ := strings.Cut(line, "#")
	fields := strings.Fields(entry)
	if len(fields) == 0 {
		return strings.TrimSpace(line) // a comment
	}
	kept := slices.DeleteFunc(slices.Clone(fields[1:]), func(field string) bool { return slices.Contains(names, strings.ToLower(field)) })
	switch len(kept) {
	case len(fields) - 1:
		return line
	case 0:
		return ""
	}
	return fields[0] + "\t" + strings.Join(kept, " ")
}
