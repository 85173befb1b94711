package landlock

import "fmt"

// Protection is one thing that Landlock enforces from some ABI on, and that a policy can set apart as `protection.NAME`.
type Protection string

// The protections, by the names that policies use.
const (
	FSRefer           Protection = "fs_refer"
	FSTruncate        Protection = "fs_truncate"
	NetTCP            Protection = "net_tcp"
	FSIoctlDev        Protection = "fs_ioctl_dev"
	SignalScope       Protection = "signal_scope"
	AbstractUnixScope Protection = "abstract_unix_scope"
)

// Protections lists all of them, lowest floor first.
func Protections() []Protection {
	return []Protection{FSRefer, FSTruncate, NetTCP, FSIoctlDev, SignalScope, AbstractUnixScope}
}

// Floor is the first ABI that enforces p; 0 if p is not a protection.
func (p Protection) Floor() ABI {
	switch p {
	case FSRefer:
		return 2
	case FSTruncate:
		return 3
	case NetTCP:
		return 4
	case FSIoctlDev:
		return 5
	case SignalScope, AbstractUnixScope:
		return 6
	}
	return 0
}

// Without says, as the rest of a sentence, what a container can do when p is not enforced.
func (p Protection) Without() string {
	switch p {
	case FSRefer:
		return "no file can be moved or linked to another directory"
	case FSTruncate:
		return "files outside the write list can be truncated"
	case NetTCP:
		return "TCP ports are not restricted by Landlock"
	case FSIoctlDev:
		return "ioctls on devices outside the write list are allowed"
	case SignalScope:
		return "processes outside the container can be signalled where no pid namespace hides them"
	case AbstractUnixScope:
		return "abstract Unix sockets outside the container can be connected to where the network namespace is shared"
	}
	return ""
}

// Mode says how much a policy insists on a protection. The zero value is the default, [Strict].
type Mode string

// Modes, by the names that policies use.
const (
	Strict  Mode = "strict"  // a kernel that cannot enforce it is an error
	Degrade Mode = "degrade" // enforced where the kernel can, left out and reported where it cannot
	Off     Mode = "off"     // not enforced
)

// UnsupportedError says that the kernel cannot enforce a protection on which the policy insists.
type UnsupportedError struct {
	Protection Protection
	Need, Have ABI
}

// Error names the protection, the ABI it needs and the ABI there is.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("protection.%s: needs Landlock ABI %d, this kernel has %d", e.Protection, e.Need, e.Have)
}

// Omission is a protection that was asked for and that a ruleset does without.
type Omission struct {
	Protection Protection `json:"protection"`
	Mode       Mode       `json:"mode"`
	Need       ABI        `json:"need_abi"`
	Have       ABI        `json:"have_abi"`
	Result     string     `json:"result"` // what a container can do for lack of it
}
