// Package caller splits the process that create or run is called as in two, before the Go runtime starts.
//
// A container needs a process that stays (its monitor) besides the one that was called and must end. Starting a second Go process for it
// would cost the start of a Go runtime, which is a good part of a container's whole start. So a constructor in C forks first: the
// child becomes a Go process, carries out the verb and stays as the monitor; the process that was called never starts Go. It is the
// parent of the monitor and of the workload (which the monitor makes with CLONE_PARENT), reaps both, passes signals on,
// and ends with the exit code it is told.
//
// A process that makes others inside a container must not have its executable written through them: /proc/PID/exe, reached from inside, would lead to
// the file on the host (CVE-2019-5736 and its kin). [Seal] has the process execute itself again from a read-only mount of its own
// file, or from a sealed copy in memory where it may not mount. For exec the constructor does it at once. For create and run it costs a good part of a
// start, and where the container's first process is under Landlock, and nobody but its own children is in its PID namespace, that holds the door: no file
// outside the container's root can be opened or executed then. So there it is left to the verb to call Seal where it needs to.
//
// A process without privileges has them in a user namespace of its own, which a Go process cannot enter any more. [Enter] has it execute itself again, and the
// constructor enters.
//
// The kernel ties no process to another that is not its parent, and the monitor is not the workload's. [Process.Tie] has the calling process, which is their
// common parent, fork a third one that waits for the end of either, and kills the workload if the monitor's came first. It stays in C, too, and has
// a few dirty pages.
package caller
