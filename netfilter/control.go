package netfilter

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Constants of <linux/socket.h>, <linux/udp.h>, <linux/tls.h> and <asm-generic/socket.h> that x/sys lacks.
const (
	scmMaxFD     = 253 // SCM_MAX_FD of <net/scm.h>
	cmsghdrSize  = unix.SizeofCmsghdr
	ucredSize    = unix.SizeofUcred
	solTLS       = 282 // SOL_TLS
	solSCTP      = unix.IPPROTO_SCTP
	tlsSetRecord = 1  // TLS_SET_RECORD_TYPE
	scmTSOptID   = 81 // SCM_TS_OPT_ID
	ipv6FlowInfo = 11 // IPV6_FLOWINFO of <linux/in6.h>

	ipv6FlowLabelManager = 32 // IPV6_FLOWLABEL_MGR of <linux/in6.h>
)

// controlMessage is one entry of a message's ancillary data, see cmsg(3).
type controlMessage struct {
	level, kind int32
	data        []byte // part of the buffer that was parsed
}

// nextControl reads the first entry of ancillary data and returns what follows it. ok is false at the end: like the kernel's
// own loop, it ends where no header fits any more. An entry that is shorter than its header or reaches beyond the buffer is
// EINVAL.
func nextControl(control []byte) (m controlMessage, rest []byte, ok bool, errno unix.Errno) {
	if len(control) < cmsghdrSize {
		return m, nil, false, 0
	}
	size := binary.NativeEndian.Uint64(control)
	if size < cmsghdrSize || size > uint64(len(control)) {
		return m, nil, false, unix.EINVAL
	}
	m.level = int32(binary.NativeEndian.Uint32(control[8:]))
	m.kind = int32(binary.NativeEndian.Uint32(control[12:]))
	m.data = control[cmsghdrSize:size]
	aligned := (size + 7) &^ 7
	return m, control[min(aligned, uint64(len(control))):], true, 0
}

// appendControl appends an entry to ancillary data.
func appendControl(to []byte, level, kind int32, data []byte) []byte {
	to = binary.NativeEndian.AppendUint64(to, uint64(cmsghdrSize+len(data)))
	to = binary.NativeEndian.AppendUint32(to, uint32(level))
	to = binary.NativeEndian.AppendUint32(to, uint32(kind))
	to = append(to, data...)
	for len(to)%8 != 0 {
		to = append(to, 0)
	}
	return to
}

// checkInetControl tells whether the ancillary data of a message to an IPv4 or IPv6 socket may be sent on the guest's behalf,
// which is done with the supervisor's privileges. What the kernel lets everybody ask for may; source routes (IP_RETOPTS,
// IPV6_RTHDR) may not, nor may what takes a capability, such as SO_MARK or IPv6 extension headers: EPERM, as for somebody
// without it.
func checkInetControl(control []byte) unix.Errno {
	for {
		m, rest, ok, errno := nextControl(control)
		if errno != 0 {
			return errno
		}
		if !ok {
			return 0
		}
		if !harmlessControl(m.level, m.kind) {
			return unix.EPERM
		}
		control = rest
	}
}

func harmlessControl(level, kind int32) bool {
	switch level {
	case unix.SOL_IP:
		return kind == unix.IP_PKTINFO || kind == unix.IP_TTL || kind == unix.IP_TOS
	case unix.SOL_IPV6:
		switch kind {
		case unix.IPV6_PKTINFO, unix.IPV6_2292PKTINFO, unix.IPV6_HOPLIMIT, unix.IPV6_2292HOPLIMIT, unix.IPV6_TCLASS,
			unix.IPV6_DONTFRAG, ipv6FlowInfo:
			return true
		}
	case unix.SOL_UDP:
		return kind == unix.UDP_SEGMENT
	case unix.SOL_SOCKET:
		return kind == unix.SO_TIMESTAMPING || kind == unix.SO_TIMESTAMPING_NEW || kind == unix.SCM_TXTIME || kind == scmTSOptID
	case solTLS:
		return kind == tlsSetRecord
	}
	return false
}

// splitUnixControl takes the ancillary data of a message to a Unix socket apart: the guest's descriptors to pass on, and the
// credentials it states, if any. As in the kernel the last of several credentials counts; descriptors add up, to SCM_MAX_FD.
func splitUnixControl(control []byte, fds []int32) (_ []int32, stated *unix.Ucred, errno unix.Errno) {
	for {
		m, rest, ok, errno := nextControl(control)
		if errno != 0 {
			return nil, nil, errno
		}
		if !ok {
			return fds, stated, 0
		}
		if m.level == unix.SOL_SOCKET {
			switch m.kind {
			case unix.SCM_RIGHTS:
				for data := m.data; len(data) >= 4; data = data[4:] {
					fds = append(fds, int32(binary.NativeEndian.Uint32(data)))
				}
				if len(fds) > scmMaxFD {
					return nil, nil, unix.EINVAL
				}
			case unix.SCM_CREDENTIALS:
				if len(m.data) != ucredSize {
					return nil, nil, unix.EINVAL
				}
				stated = &unix.Ucred{
					Pid: int32(binary.NativeEndian.Uint32(m.data)),
					Uid: binary.NativeEndian.Uint32(m.data[4:]),
					Gid: binary.NativeEndian.Uint32(m.data[8:]),
				}
			default:
				return nil, nil, unix.EINVAL
			}
		}
		control = rest
	}
}
