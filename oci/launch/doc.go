// Package launch turns a list of raw system calls into a running process.
//
// The child that becomes a container's workload never runs Go. A [Program] is that child's whole life, as data: steps
// that each name a system call, its arguments and what to do with its result. [Start] copies the program into one shared
// mapping, makes the child with clone3(2) and lets a small C function walk the list there: no allocation, no Go runtime, one
// thread. The walk ends in execve(2).
//
// What the package promises:
//
//   - a program can be printed ([Program.String]) and is then the whole truth of what the child does;
//   - a step that fails comes back to the parent as a [*StepError] with the step's words and errno, and the child is gone;
//   - a child whose parent dies at any moment before execve dies too: it waits at its sync points on a socket whose
//     other end only the parent holds;
//   - every descriptor that the program does not name is closed in the child before its first step, and everything from 3
//     up that the program does not keep is closed by execve.
//
// The package knows nothing of containers: what the steps are for is their author's business.
package launch
