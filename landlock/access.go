package landlock

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Access is a set of file system rights, with the bits of LANDLOCK_ACCESS_FS_* in <linux/landlock.h>.
// It is printed, and written as JSON, by the names of its rights.
type Access uint64

// Rights that lists are made of.
const (
	// Read is what a `read` path gives: read files, list directories and execute.
	Read Access = ll.AccessFSExecute | ll.AccessFSReadFile | ll.AccessFSReadDir
	// Write is what a `write` path gives: everything that Read does, and every change.
	Write = Read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev | ll.AccessFSRefer |
		ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg |
		ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeBlock | ll.AccessFSMakeSym
	// execution is what the kernel asks of a program, of its interpreter and of a script: all are opened for reading and
	// for execution.
	execution Access = ll.AccessFSExecute | ll.AccessFSReadFile
	// device is what a device node needs so that a program can use it fully.
	device Access = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev
	// onFile is what a rule on something other than a directory may carry: landlock_add_rule(2) answers EINVAL to the
	// others (ACCESS_FILE in security/landlock/fs.c).
	onFile Access = ll.AccessFSExecute | ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev
	// Rights that came after the first ABI, and what that one handles.
	refer    Access = ll.AccessFSRefer
	truncate Access = ll.AccessFSTruncate
	ioctlDev Access = ll.AccessFSIoctlDev
	first           = Write &^ (refer | truncate | ioctlDev)
)

// accessNames has the name of each right at the index of its bit.
var accessNames = [...]string{
	"execute", "write_file", "read_file", "read_dir", "remove_dir", "remove_file", "make_char", "make_dir", "make_reg",
	"make_sock", "make_fifo", "make_block", "make_sym", "refer", "truncate", "ioctl_dev",
}

// Has says whether every right of want is in a.
func (a Access) Has(want Access) bool { return a&want == want }

// String gives the names, joined by commas.
func (a Access) String() string { return strings.Join(bitNames(uint64(a), accessNames[:]), ",") }

// MarshalJSON writes the set as an array of names.
func (a Access) MarshalJSON() ([]byte, error) {
	return json.Marshal(bitNames(uint64(a), accessNames[:]))
}

// UnmarshalJSON reads an array of names; an unknown name is an error.
func (a *Access) UnmarshalJSON(data []byte) error {
	set, err := bitsOf(data, accessNames[:])
	*a = Access(set)
	return err
}

// Network is a set of network rights, with the bits of LANDLOCK_ACCESS_NET_* in <linux/landlock.h>.
type Network uint64

// Rights over TCP ports.
const (
	BindTCP    Network = ll.AccessNetBindTCP
	ConnectTCP Network = ll.AccessNetConnectTCP
)

var networkNames = [...]string{"bind_tcp", "connect_tcp"}

// String gives the names, joined by commas.
func (n Network) String() string { return strings.Join(bitNames(uint64(n), networkNames[:]), ",") }

// MarshalJSON writes the set as an array of names.
func (n Network) MarshalJSON() ([]byte, error) {
	return json.Marshal(bitNames(uint64(n), networkNames[:]))
}

// UnmarshalJSON reads an array of names; an unknown name is an error.
func (n *Network) UnmarshalJSON(data []byte) error {
	set, err := bitsOf(data, networkNames[:])
	*n = Network(set)
	return err
}

// Scope is a set of things that are cut off outside the restricted domain, with the bits of LANDLOCK_SCOPE_* in
// <linux/landlock.h>.
type Scope uint64

// Scopes.
const (
	ScopeAbstractUnix Scope = ll.ScopeAbstractUnixSocket
	ScopeSignal       Scope = ll.ScopeSignal
)

var scopeNames = [...]string{"abstract_unix_socket", "signal"}

// String gives the names, joined by commas.
func (s Scope) String() string { return strings.Join(bitNames(uint64(s), scopeNames[:]), ",") }

// MarshalJSON writes the set as an array of names.
func (s Scope) MarshalJSON() ([]byte, error) {
	return json.Marshal(bitNames(uint64(s), scopeNames[:]))
}

// UnmarshalJSON reads an array of names; an unknown name is an error.
func (s *Scope) UnmarshalJSON(data []byte) error {
	set, err := bitsOf(data, scopeNames[:])
	*s = Scope(set)
	return err
}

// bitNames gives the name of each set bit, lowest first; a bit without a name shows as its number.
func bitNames(set uint64, names []string) []string {
	list := make([]string, 0, bits.OnesCount64(set))
	for ; set != 0; set &= set - 1 {
		bit := bits.TrailingZeros64(set)
		if bit < len(names) {
			list = append(list, names[bit])
		} else {
			list = append(list, fmt.Sprintf("bit_%d", bit))
		}
	}
	return list
}

// bitsOf is the inverse of bitNames, from JSON.
func bitsOf(data []byte, names []string) (uint64, error) {
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return 0, err
	}
	var set uint64
next:
	for _, want := range list {
		for bit, name := range names {
			if name == want {
				set |= 1 << bit
				continue next
			}
		}
		return 0, fmt.Errorf("landlock: no right is called %q", want)
	}
	return set, nil
}
