// Package install registers the runtime with Docker and containerd, and takes that back.
//
// What becomes of a configuration file is decided by pure functions, [Docker.Install] and its like: bytes in, bytes out. They keep what they
// do not know, are idempotent, and refuse what they cannot extend without guessing. [Change.Apply] does the rest: it keeps the file as it was
// before the first change beside it, and replaces it as a whole, so that whoever reads it meanwhile finds the old or the new one.
package install
