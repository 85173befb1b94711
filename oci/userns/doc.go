// Package userns gives a process without privileges a user namespace to be privileged in.
//
// A container is made with mounts, namespaces and descriptors that the runtime prepares from outside, and all of that takes CAP_SYS_ADMIN over the
// user namespace that the runtime is in. An ordinary user has none. So the runtime enters a user namespace of its own first ([New] makes it, and package caller enters it), between the
// user's and the container's. Every id in it is the same number as outside: the ids of the spec, and of files, mean what they meant. Like any
// user namespace's, its owner is privileged over it and those below from outside, too, so that the other verbs can signal and join.
//
// An ordinary user may map only the own id. The ranges of /etc/subuid and /etc/subgid take newuidmap(1) and newgidmap(1).
package userns
