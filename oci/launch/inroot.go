package launch

import "golang.org/x/sys/unix"

// Resolve flags for paths inside a container's root: symbolic links are followed as if the root were "/", and no
// /proc magic link leads out of it.
const InRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// OpenInRoot is openat2(2) with [InRoot] and O_CLOEXEC, done by this process at once. The kernel fails a lookup that is to stay within a root, and follows
// a "..", with EAGAIN when something is renamed or mounted meanwhile, anywhere on the machine; so it is repeated, but not for ever.
func OpenInRoot(root int, path string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: InRoot | resolve}
	const attempts = 100 // as many as walk.c's LOOKUPS
	for i := 1; ; i++ {
		fd, err := unix.Openat2(root, path, &how)
		if err != unix.EINTR && err != unix.EAGAIN || i == attempts {
			return fd, err
		}
	}
}
