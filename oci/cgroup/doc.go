// Package cgroup puts a container into its control groups, limits it there, pauses it, and finds and removes all of it.
//
// It is a thin layer over github.com/opencontainers/cgroups, which writes every limit, on cgroup v1, v2, the hybrid of
// both, and through systemd. What the layer adds:
//
//   - Order. [Manager.Prepare] makes the directories and writes the limits without any process, so that a caller can
//     overlap it with other work, and the child is limited from its first instruction ([Manager.Enter]).
//   - A fast way in. Writing a pid into cgroup.procs makes the kernel wait for an RCU grace period (5 to 12 ms where this
//     was measured) because it excludes every fork of the machine; a task that writes "0" into a v1 tasks file moves
//     itself without that lock, and CLONE_INTO_CGROUP needs it no more. See [Entrance].
//   - A policy for hosts without usable cgroups: a container whose spec asks for nothing that needs a cgroup runs without
//     one, and [Manager.Absent] says why; any other is refused.
//
// A Manager is not safe for concurrent use, but different Managers of one container, in different processes, are: the
// kernel serialises what they do.
package cgroup
