package policy

import (
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// AnnotationPrefix is what the names of this runtime's annotations begin with.
const AnnotationPrefix = "io.sandlock."

// Kind is the type of a key's value.
type Kind int

// Kinds of value. In annotations all are text, lists separated by semicolons.
const (
	Word      Kind = iota // one of the words in Key.Words
	Name                  // the name of a profile
	Text                  // any text
	HostPath              // absolute path of the host
	Bool                  // true/false, 1/0, yes/no, on/off
	Count                 // a whole number from 1
	Size                  // bytes, with an optional suffix K, M, G or T (powers of 1024)
	CPUs                  // CPU numbers and ranges, as 0-3,5
	Paths                 // list of absolute container paths
	Mounts                // list of CONTAINER:HOST[:ro]
	Endpoints             // list of endpoint rules
	PortLists             // list of TCP ports and ranges of them
	Names                 // list of names of syscalls or groups
	Texts                 // list of any text
)

// String describes the kind to users.
func (k Kind) String() string {
	return [...]string{
		"word", "profile name", "text", "host path", "boolean", "count", "size", "CPU list", "list of container paths",
		"list of container:host[:ro]", "list of endpoint rules", "list of ports and ranges", "list of names", "list",
	}[k]
}

// list reports whether values of the kind are lists.
func (k Kind) list() bool { return k >= Paths }

// Key is one key of the policy.
type Key struct {
	Name string // SECTION.KEY, or KEY without a section
	Kind Kind
	// Words are the values of a key of kind Word, strongest last.
	Words []string
	// Host marks a key that reaches host files or secrets.
	Host bool
	// Later marks a key that belongs to the contract and is refused: this
	// version does not enforce it.
	Later bool
	// Only, if not empty, names the one source that may give the key.
	Only string
}

// Sources that Key.Only names.
const (
	onlyOperator   = "the operator's configuration"
	onlyAnnotation = "annotations"
)

var (
	levels     = []string{string(Off), string(Degrade), string(Strict)}
	isolations = []string{"process", string(Auto), string(Namespaces)}
	endings    = []string{"commit", "abort", "keep"}
)

// keys is the one table of keys: parsing, error messages and documentation
// follow it.
var keys = [...]Key{
	{Name: "isolation", Kind: Word, Words: isolations},
	{Name: "profile", Kind: Name, Only: onlyAnnotation},
	{Name: "filesystem.read", Kind: Paths},
	{Name: "filesystem.write", Kind: Paths},
	{Name: "filesystem.deny", Kind: Paths},
	{Name: "filesystem.mount", Kind: Mounts, Host: true},
	{Name: "filesystem.workdir", Kind: Text, Later: true},
	{Name: "filesystem.on_exit", Kind: Word, Words: endings, Later: true},
	{Name: "filesystem.on_error", Kind: Word, Words: endings, Later: true},
	{Name: "filesystem.dry_run", Kind: Bool, Later: true},
	{Name: "network.allow", Kind: Endpoints},
	{Name: "network.deny", Kind: Endpoints},
	{Name: "network.allow_bind", Kind: PortLists},
	{Name: "network.deny_bind", Kind: PortLists},
	{Name: "network.port_remap", Kind: Bool},
	{Name: "http.allow", Kind: Texts, Later: true},
	{Name: "http.deny", Kind: Texts, Later: true},
	{Name: "http.ports", Kind: Texts, Later: true},
	{Name: "config.http_inject_ca", Kind: Paths, Later: true},
	{Name: "config.http_ca", Kind: Text, Host: true, Later: true},
	{Name: "config.http_key", Kind: Text, Host: true, Later: true},
	{Name: "config.http_ca_out", Kind: Text, Host: true, Later: true},
	{Name: "config.credential", Kind: Texts, Host: true, Later: true},
	{Name: "config.http_auth", Kind: Texts, Host: true, Later: true},
	{Name: "limits.memory", Kind: Size},
	{Name: "limits.disk", Kind: Size, Later: true},
	{Name: "limits.processes", Kind: Count},
	{Name: "limits.open_files", Kind: Count},
	{Name: "limits.num_cpus", Kind: Count, Later: true},
	{Name: "limits.cpu", Kind: Count},
	{Name: "limits.cpu_cores", Kind: CPUs},
	{Name: "syscalls.deny", Kind: Names},
	{Name: "syscalls.allow", Kind: Names},
	{Name: "determinism.random_seed", Kind: Text, Later: true},
	{Name: "determinism.time_start", Kind: Text, Later: true},
	{Name: "determinism.deterministic_dirs", Kind: Bool, Later: true},
	{Name: "determinism.no_randomize_memory", Kind: Bool, Later: true},
	{Name: "policy.socket", Kind: HostPath, Host: true},
	{Name: "protection.fs_refer", Kind: Word, Words: levels},
	{Name: "protection.fs_truncate", Kind: Word, Words: levels},
	{Name: "protection.net_tcp", Kind: Word, Words: levels},
	{Name: "protection.fs_ioctl_dev", Kind: Word, Words: levels},
	{Name: "protection.signal_scope", Kind: Word, Words: levels},
	{Name: "protection.abstract_unix_scope", Kind: Word, Words: levels},

	{Name: "annotations.allow", Kind: Texts, Only: onlyOperator},
	{Name: "annotations.grant", Kind: Texts, Only: onlyOperator},
	{Name: "profiles.directory", Kind: Text, Only: onlyOperator},
	{Name: "profiles.default", Kind: Name, Only: onlyOperator},
	{Name: "degradable", Kind: Texts, Only: onlyOperator},
}

// Keys returns the table of keys, for documentation.
func Keys() []Key { return slices.Clone(keys[:]) }

// findKey returns the key with the name, or nil.
func findKey(name string) *Key {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}

// isSection reports whether any key lies in the section.
func isSection(name string) bool {
	for i := range keys {
		if section, _, has := strings.Cut(keys[i].Name, "."); has && section == name {
			return true
		}
	}
	return false
}

// from reports whether a source that calls itself one of the names in Key.Only
// may give the key.
func (k *Key) from(source string) bool { return k.Only == "" || k.Only == source }

// matches reports whether a list of names, in which "section.*" stands for all
// keys of a section, has the key.
func (k *Key) matches(list []string) bool {
	section, _, has := strings.Cut(k.Name, ".")
	return slices.Contains(list, k.Name) || has && slices.Contains(list, section+".*")
}

// nearestKey returns the name nearest to a wrong one, of the keys that the
// source may give; of those in the same section, if there are any.
func nearestKey(name, source string) string {
	var names, siblings []string
	section, _, _ := strings.Cut(name, ".")
	for i := range keys {
		if keys[i].from(source) {
			names = append(names, keys[i].Name)
			if strings.HasPrefix(keys[i].Name, section+".") {
				siblings = append(siblings, keys[i].Name)
			}
		}
	}
	if len(siblings) > 0 {
		names = siblings
	}
	return nearest(name, names)
}

// nearestSection returns the section nearest to a wrong one, of those that the
// source may give keys of.
func nearestSection(name, source string) string {
	var sections []string
	for i := range keys {
		if section, _, has := strings.Cut(keys[i].Name, "."); has && keys[i].from(source) {
			sections = append(sections, section)
		}
	}
	return nearest(name, sections)
}

// nearest returns the candidate with the smallest edit distance from name; the
// first such of several; "" if there is none. A name cut short is one edit away.
func nearest(name string, candidates []string) string {
	const longest = 64 // nothing as long as that resembles a name of ours
	if len(name) > longest {
		name = name[:longest]
	}
	best, bestDistance := "", -1
	for _, candidate := range candidates {
		d := smetrics.WagnerFischer(name, candidate, 1, 1, 1)
		if name != "" && strings.HasPrefix(candidate, name) {
			d = min(d, 1)
		}
		if bestDistance < 0 || d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}
