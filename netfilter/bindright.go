package netfilter

import (
	"bytes"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// firstUnprivileged is the default of net.ipv4.ip_unprivileged_port_start, PROT_SOCK of <net/sock.h>.
const firstUnprivileged = 1024

// mayBind tells whether the caller may bind a socket to a port: whether it has CAP_NET_BIND_SERVICE over the socket's network
// namespace, or anybody may. The kernel cannot be asked, since it would judge the supervisor, or another port. If something cannot
// be told the caller may not.
func mayBind(host *seccompnotif.Host, c *seccompnotif.Call, s *socket, port uint16) bool {
	if port == 0 {
		return true
	}
	network, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCGSKNS, 0)
	if errno != 0 {
		return port >= firstUnprivileged
	}
	defer unix.Close(int(network))
	return serves(host, c, int(network)) || port >= unprivilegedStart(int(network))
}

// serves tells whether the caller has CAP_NET_BIND_SERVICE in the user namespace that a network namespace belongs to.
func serves(host *seccompnotif.Host, c *seccompnotif.Call, network int) bool {
	id, err := host.Identity(c)
	if err != nil || id.Effective&(1<<unix.CAP_NET_BIND_SERVICE) == 0 {
		return false
	}
	callers, err := host.NamespaceOfCaller(c, "user")
	if err != nil {
		return false
	}
	user, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(network), unix.NS_GET_USERNS, 0)
	if errno != 0 {
		return false
	}
	defer unix.Close(int(user))
	owner, err := seccompnotif.NamespaceOf(int(user))
	return err == nil && owner == callers
}

// unprivilegedStart returns a network namespace's net.ipv4.ip_unprivileged_port_start, which only a thread inside gets to see.
func unprivilegedStart(network int) uint16 {
	read := make(chan uint16)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		start := uint16(firstUnprivileged)
		if unix.Setns(network, unix.CLONE_NEWNET) == nil {
			if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
				if n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 16); err == nil {
					start = uint16(n)
				}
			}
		}
		read <- start
	}()
	return <-read
}
