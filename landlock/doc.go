// Package landlock turns lists of paths, ports and scopes into a Landlock ruleset.
//
// Deciding and doing are apart. [Plan] is pure: from a [Request] and the [ABI] of the running kernel it makes a [Ruleset],
// a value that can be printed, compared and kept. [Ruleset.Create], or [Ruleset.New] followed by [Ruleset.AddPaths], make
// that value real as a ruleset descriptor. The package never restricts the calling process: whoever holds the descriptor
// does that with landlock_restrict_self(2), in the child that is to become the workload.
//
// What the kernel cannot enforce is an error, never a silent gap: each [Protection] has a floor, the first ABI that enforces
// it, and a [Mode] that says what to do below that floor.
//
// Three traits of Landlock shape the rules. Rights add up along the way from a file to the root, so a list never takes back
// what a list above it gives. A right that is not handled is not restricted, with one exception: moving and linking between
// directories (refer) is always refused unless a rule grants it. And rules hold inodes, not names, so a path is looked up
// once, when its rule is made.
//
// Sources: landlock(7), Documentation/userspace-api/landlock.rst and security/landlock/fs.c of the Linux kernel.
package landlock
