// Package caller splits the process that create or run is called as in two, before the Go runtime starts.
//
// A container needs a process that stays (its monitor) besides the one that was called and must end. Starting a second Go process for it
// would cost the start of a Go runtime, which is a good part of a container's whole start. So a constructor in C forks first: the
// child becomes a Go process, carries out the verb and stays as the monitor; the process that was called never starts Go. It is the
// parent of the monitor and of the workload (which the monitor makes with CLONE_PARENT), reaps both, passes signals on,
// and ends with the exit code it is told.
//
// Before that the constructor seals the executable, for these verbs and for exec, because they make processes that live in
// a container: the process executes itself again from a read-only mount of its own file (or from a sealed copy in memory
// where it may not mount), so that /proc/PID/exe, reached from inside, cannot be opened for writing. That closes
// CVE-2019-5736 and its kin.
package caller
