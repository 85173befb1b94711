// Package netfilter decides what a container may send packets to, and carries its judged network calls out.
//
// It has two parts. The first is pure and knows nothing of seccomp: endpoint rules ([ParseRule]), port lists ([ParsePorts])
// and the [Policy] made of them, which answers [Policy.Allows] and tells what of it needs whom: Landlock alone
// ([Policy.TCPPortsOnly]), a filter that decides on registers ([Policy.Denials]), or the supervisor ([Policy.NeedsSupervisor],
// [Policy.Notifications]).
//
// The second part is [Egress], the handlers of connect(2), sendto(2), sendmsg(2) and sendmmsg(2). They never let a call
// continue after looking at the guest's memory or descriptors, since another thread could replace either before the kernel
// looks again. Instead they duplicate the socket, copy the address once, judge the copy and make the call themselves on the
// duplicate. Judging happens when a destination is used, so it covers sockets that the guest inherited or received over a Unix
// socket as well as those it made.
//
// # What the guest sees
//
// A destination that the policy denies fails with EACCES in all four calls, which is what the kernel answers for a route of
// type "prohibit". Denials are told to a [DenialLog]. Where a thread connects again to a destination that no protocol may reach,
// by the same descriptor number, the log may count the call without the socket's being looked at; then it fails with EACCES even
// if the descriptor has been closed since, or become something that has no such addresses.
//
// # What is not judged
//
// Incoming connections, and sends on sockets that are connected already: their destination was judged by connect. A guest with
// CAP_NET_ADMIN over its network namespace can redirect what it sends (nftables, tunnels); it is up to the plan to refuse that
// combination.
//
// # On the guest's behalf
//
// A call that is carried out here is the supervisor's to the kernel. For IPv4 and IPv6 that makes no difference to where packets
// go, since a socket keeps its namespace and cgroup; options of a packet that take a capability are refused. Connecting to
// Unix sockets by path and netlink requests run on a thread with the guest's user, groups and capabilities, and its root.
// What no thread can take on is the guest's process id (SO_PEERCRED tells the supervisor's), its Landlock domain and its LSM
// label. Abstract Unix sockets of the supervisor's own network namespace are therefore out of reach unless
// [EgressConfig.SharedAbstract] says otherwise, and of netlink requests those that name processes or descriptors are refused.
//
// A call that would block is parked: it takes no thread, and goes on for as long as the kernel's own would. It ends when its
// guest dies, gives way to the guest's signals, and keeps to the socket's SO_SNDTIMEO. Beyond some thousands of parked calls
// (a quarter of the descriptors that the supervisor may open) the next fails with EAGAIN.
package netfilter
