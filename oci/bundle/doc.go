// Package bundle loads an OCI bundle: its config.json, decoded once into the
// types of the runtime specification and checked before anything is done with
// it.
//
// What the package promises:
//
//   - A spec that Load returns has every field this runtime relies on: a known
//     version, a process with arguments and an absolute working directory, a
//     root file system that is a directory, namespaces of known type and at
//     most once each, and so on. Later stages need not check again.
//   - A field that this version does not implement is refused by name, never
//     ignored (see unsupported.go). Fields of no effect on Linux
//     (process.commandLine, process.user.username) and fields the
//     specification does not know are left alone, as the specification asks.
//   - What runc merely warns about (relative mount
//     destinations, kernel memory limits, a joined user namespace that comes
//     with mappings) is accepted and returned as a warning.
//   - An error is one line: file, field, reason. Errors about the content of a
//     document are of type *FieldError.
//
// The package reads files and has no other effect. Its functions may be called
// from several goroutines at once.
//
// It decides from the spec and from what it names on disk alone: whether mount
// options suit their file system is left to the mount map, whether a syscall
// name exists to the filter compiler, and resource limits beyond their syntax
// to the cgroup driver.
package bundle
