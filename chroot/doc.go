// Package chroot plans a container's file tree and makes it real.
//
// A [Map] is the tree as data: the root, the mounts in order, the devices and links of /dev, and the paths that are masked,
// read-only or denied. [NewMap] works it out from the spec without looking at the machine, so a map can be printed and
// compared. It becomes a kernel root in three steps, all of them by descriptor:
//
//   - [Open], in the parent and with its privileges, clones the root and the source of each bind mount into detached mounts that
//     already have their final attributes and propagation;
//   - [Sources.Steps] adds to a launch program what attaches them, makes fresh filesystems and missing mount points in the child's own mount
//     namespace. Nothing of it is visible outside;
//   - [Sources.Pivot] makes the tree the child's root and drops the old one, [Sources.Finish] covers and seals what must be. The
//     author of the program puts hooks, sysctls and the like in between.
//
// What the package promises:
//
//   - no path of the image is looked up outside the image: a symbolic link leads to where it would lead inside the container, a
//     /proc magic link leads nowhere;
//   - a mount point is looked up once and used through its descriptor, so there is no moment at which it could be exchanged;
//   - nothing is mounted inside /proc but the few files that the field overlays there, even if the image's links lead there;
//   - no mount made for the container propagates to the host unless the spec asks for shared propagation of the root and
//     the mount, and there is no user namespace.
//
// [DeniedPaths] are denied while the container runs, with the help of the supervisor.
//
// What it cannot promise: a path that is denied from the start is covered by a mount, so another name of the same file (a hard link, a
// second bind mount of its directory) stays readable, and whoever has CAP_SYS_ADMIN over the container's mount namespace can take the
// cover off. In a user namespace the same holds for attributes such as "ro": mounts that the parent has made are not locked for
// the container's own root.
package chroot
