// Package seccompnotif supervises tasks through seccomp user notification (seccomp_unotify(2)).
//
// It has three parts, which can be used apart from each other:
//
//   - Filters. [Overlay] states as data which system calls are notified and which are denied, and assembles to BPF.
//     [ProfileCache] compiles an OCI seccomp profile with libseccomp and keeps the result on disk.
//   - A supervisor. [Supervisor] receives the notifications of any number of listeners, runs the chain of handlers that a
//     [Table] holds for the system call, and performs the [Action] they answer with.
//   - What a handler needs to decide: [Call] reads and writes the guest's memory, duplicates its descriptors and finds the
//     [Process] behind a notification.
//
// # Trust
//
// The guest is hostile. Its memory may change between two reads, its pids are recycled, its descriptors may be replaced
// while a call is judged. An answer of [Continue] makes the kernel run the call with whatever the guest's memory holds by
// then, so a handler may continue on the strength of register values alone, never on what it read through a pointer. For a
// decision that rests on memory, carry the call out on the guest's behalf and answer with [Return], [Errno] or an injected
// descriptor. The exception is [JudgeExec], which stops everybody who could write to the memory.
//
// Everything fails closed: a handler that panics, a worker that is late, a descriptor that cannot be injected, a system call
// that nobody handles: each of them denies. When the supervisor dies the kernel answers every notified call with ENOSYS.
//
// The words guest and supervisor are those of seccomp_unotify(2)'s target and supervisor: the guest is the task under the
// filter.
package seccompnotif
