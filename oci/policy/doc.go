// Package policy turns the sources of policy into one value.
//
// The sources are, weakest first: the operator's configuration
// (/etc/sandlock/config.toml), the profiles, and the annotations io.sandlock.*
// of the spec. Load reads them, checks every key against one table (keys.go)
// and merges them into a Policy. It reads files and does nothing else.
//
// # What a later source may do
//
// It may only tighten, except for keys that the operator lists under
// annotations.grant: a granted key replaces what earlier sources said. Without a
// grant:
//
//   - filesystem.read and filesystem.write. Each source that gives either is
//     taken whole, as if it stood alone: readable is what its two lists name,
//     writable what its write list names. What remains is what every such source
//     permits; of two paths, one beneath the other, the deeper remains. So a
//     source that only names write=/tmp makes nothing but /tmp readable, over a
//     profile just as by itself.
//   - network.allow. Each source's list is a layer of Network.Allow; a
//     destination must be permitted by every layer. A list that is given and
//     empty permits nothing.
//   - filesystem.deny, network.deny, syscalls.deny add up.
//   - limits.* take the lower value; limits.cpu_cores the common CPUs, and
//     having none in common is an error.
//   - isolation: namespaces stays, whatever is said later, for auto asks for
//     nothing that namespaces does not give.
//   - filesystem.mount adds up, granted or not. One container path with two
//     meanings is an error, unless the key is granted: then the later counts.
//   - policy.socket: two different agents are an error, for neither could stand in
//     for the other.
//   - syscalls.allow and protection.* can only be loosened by a grant; an
//     attempt without one is an error that names the key, since silence would
//     leave the author with a container that fails for no visible reason.
//     syscalls.allow lifts default denials, so no source having given it means
//     that nothing is lifted.
//
// The lists degradable and protection.* of the operator, and the protection.*
// and syscalls.allow of the first profile, are statements of the operator, not
// attempts to loosen the built-in default; they need no grant.
//
// # Profiles
//
// The option --profile wins over the operator's profiles.default. A profile
// named by the annotation io.sandlock.profile comes on top of that one as a
// further source that can only tighten; with "profile" granted it takes its
// place. A profile cannot name another profile.
//
// # Annotations
//
// Keys marked host are refused in annotations unless annotations.allow or
// annotations.grant names them (a wildcard "section.*" in allow does not; in
// grant it does). Without annotations.allow all other keys may be used; with it,
// only those listed there or granted. Annotations outside io.sandlock. are
// nobody's business here, but for those that tell a pod's sandbox: its annotations
// are its containers', whose paths its image lacks. For a sandbox the keys
// filesystem.* of annotations are checked and then left out, and so are those of a
// profile that an annotation names, unless it takes another's place. The annotation
// might have been missing, so that nothing of the operator's is lost, whoever makes
// a container look like a sandbox.
//
// # Files
//
// A configuration or profile must be a regular file of at most 1 MiB, owned by
// root or by the caller, and not writable by everybody. The default
// configuration file may be absent; one named by the caller may not. When
// nothing is configured anywhere, Load costs one failed open.
package policy
