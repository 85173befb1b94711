// Package onbehalf makes system calls that take paths for a guest of package seccompnotif: with its root and working directory, its
// user, groups and capabilities, and under what confines it.
//
// A handler that lets a call continue after it has looked at the path decides about one path and has the kernel use another: the guest
// can change its memory, and its file tree, in between. Here a path is read once and looked up once. What it leads to is held by a
// descriptor ([Object]), a [Judge] decides about that, and what is opened, changed or removed is what the descriptor refers to.
//
//	engine, _ := onbehalf.New(onbehalf.Config{Confine: underTheContainersLandlockRules})
//	table.Handle(unix.SYS_OPENAT, engine.Opener(judge))
//
// # Acting as the guest
//
// An [Engine] has OS threads of its own. Each takes the guest's root (chroot(2), which binds one thread where its file system context
// is its own), and for the moment of a call the guest's ids, groups, umask and effective capabilities. So the kernel itself checks
// permissions, and an opened file carries the guest's credentials. Each thread has been put under [Config.Confine] when it was
// made: rules of Landlock bind threads, and a supervisor that opened files outside of them would be the way around them.
//
// # /proc
//
// A path through /proc/self means the guest and not the supervisor. Where a lookup meets procfs, or fails, it is done component by
// component: "self" and "thread-self" become the guest's numbers in the pid namespace of that procfs, and magic links (fd/N, exe,
// cwd, root) are followed with the guest's permissions, or for the guest's own process, which needs none, with the supervisor's.
//
// # What is different from the guest's own call
//
//   - openat2 with O_PATH fails with ENOSYS, as on kernels without openat2: no supervisor can hand such a descriptor out, and the flags are in
//     memory, so that the call cannot be let through either. open and openat with O_PATH are let through.
//   - Opening a terminal never makes it the controlling one (O_NOCTTY); programs that want one ask for it with TIOCSCTTY.
//   - A guest in another user namespace than the supervisor's is given no capabilities.
//   - If Confine puts threads under Landlock, what of /proc/PID the kernel shows only to who may trace the process is out of reach for
//     others than the process itself, since a thread of the supervisor is never in the guest's own domain. For the same reason a
//     guest must not be able to put itself under rules of its own, which nobody here could see: see [Denials].
//   - A process that may not be traced (PR_SET_DUMPABLE) cannot open what of its own /proc/PID takes that right, such as maps.
//   - When a descriptor cannot be given to the guest (RLIMIT_NOFILE) the error is EACCES.
//   - A guest whose descriptor table has the descriptor that a call names relative to is asked for it; another thread that
//     replaces it meanwhile has the call see one of the two.
package onbehalf
