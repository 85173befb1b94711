package netfilter

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
	"github.com/sandlock/sandlock-runtime/seccompnotif/onbehalf"
)

// maxTable bounds a table that is rewritten, in bytes. The kernel's own is as long as there are sockets.
const maxTable = 64 << 20

// tableHeading begins /proc/net/tcp and tcp6, see proc_pid_net(5).
const tableHeading = "  sl  "

// A table is known by its inode number: a network namespace's /proc/net/tcp has the same in every procfs and by every route, such as
// /proc/PID/task/TID/net, a symbolic link, a bind mount, a descriptor, and no other network namespace's has it.
var tableNames = [...]string{"net/tcp", "net/tcp6"}

// PortSpace presents the tables of TCP sockets, see [onbehalf.Engine.Presenting].
var _ onbehalf.Presenter = (*PortSpace)(nil)

// Active tells whether any port is not the same inside and outside.
func (p *PortSpace) Active() bool { return p.remaps() }

// Names tells whether a table may have a name.
func (p *PortSpace) Names(name string) bool { return name == "tcp" || name == "tcp6" }

// Recognises tells whether an object is a table of TCP sockets of a network namespace in which the container has bound some.
func (p *PortSpace) Recognises(o *onbehalf.Object) bool {
	if !o.Exists() || !o.InProc() {
		return false
	}
	_, known := p.tableOf(o.Stat().Ino)
	return known
}

// Present answers the open of a table, of which fd is a descriptor, with the container's view of it as it is now.
func (p *PortSpace) Present(c *seccompnotif.Call, fd int) (seccompnotif.Action, bool) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return seccompnotif.Action{}, false
	}
	network, known := p.tableOf(st.Ino)
	if !known {
		return seccompnotif.Action{}, false
	}
	text, err := readFrom(fd)
	if err != nil || !bytes.HasPrefix(text, []byte(tableHeading)) {
		return seccompnotif.Action{}, false
	}
	locals := map[netip.Addr]bool{} // many lines have the same address
	return seccompnotif.InjectBytes(p.view(network, text, func(addr netip.Addr) bool {
		local, asked := locals[addr]
		if !asked {
			local = p.isLocal(c, addr)
			locals[addr] = local
		}
		return local
	})), true
}

// readFrom reads a file that stays the caller's.
func readFrom(fd int) ([]byte, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(own), "table")
	defer file.Close()
	return io.ReadAll(io.NewSectionReader(file, 0, maxTable))
}

// tableOf returns the SO_NETNS_COOKIE of the network namespace whose table has an inode number.
func (p *PortSpace) tableOf(ino uint64) (network uint64, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	network, known = p.tables[ino]
	return network, known
}

// learn finds out which the tables are of the network namespace of a socket that the caller has bound. It cannot where the socket is of
// another one than the caller. p is locked.
func (p *PortSpace) learn(c *seccompnotif.Call, s *socket, network uint64) {
	if p.networks[network] || len(p.networks) >= maxNetworks || !p.isCallers(c, s) {
		return
	}
	var inodes [len(tableNames)]uint64
	for i, name := range tableNames {
		var st unix.Stat_t
		if err := unix.Fstatat(p.host.Proc(), strconv.Itoa(c.PID())+"/"+name, &st, 0); err == nil {
			inodes[i] = st.Ino // there may be no IPv6
		}
	}
	if !c.Valid() {
		return
	}
	p.networks[network] = true
	for _, ino := range inodes {
		if ino != 0 {
			p.tables[ino] = network
		}
	}
}

// isCallers tells whether a socket is of the caller's own network namespace. Where the supervisor may not ask it is taken to be.
func (p *PortSpace) isCallers(c *seccompnotif.Call, s *socket) bool {
	network, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCGSKNS, 0)
	if errno != 0 {
		return true
	}
	defer unix.Close(int(network))
	of, err := seccompnotif.NamespaceOf(int(network))
	if err != nil {
		return true
	}
	callers, err := p.host.NamespaceOfCaller(c, "net")
	return err == nil && callers == of
}
