// Package hooks runs the programs that a spec wants run at certain moments of a container's life.
//
// A hook gets the container's state as JSON on its standard input and the environment that the spec gives it. One that is given none gets the runtime's,
// as from runc, if it runs in the runtime's namespaces. Its output is kept, up to a bound, for the error message. When its time is up, its
// whole process group is killed.
//
// Hooks of the kinds createContainer and startContainer run inside the container's namespaces. This package does not know
// how to get there: the caller gives a [Spawner] that starts the process there, and gets all the rest from here.
package hooks
