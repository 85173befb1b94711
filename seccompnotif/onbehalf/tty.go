package onbehalf

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// isTTY tells whether the object is the device that stands for everybody's own terminal, /dev/tty.
func (o *Object) isTTY() bool {
	const major, minor = 5, 0 // TTYAUX_MAJOR of <linux/major.h>
	return o.stat.Mode&unix.S_IFMT == unix.S_IFCHR && o.stat.Rdev == unix.Mkdev(major, minor)
}

// openTTY opens the guest's controlling terminal. Opened by us, /dev/tty would be the supervisor's. It is looked for among the guest's
// standard streams, then in the guest's /dev/pts.
func (x *opening) openTTY(w *worker) (int, unix.Errno) {
	g := x.guest
	var device uint64
	found := -1
	var errno unix.Errno
	w.outside(func() {
		var stat []byte
		var err error
		if stat, err = w.engine.host.ReadProc(g.id.TGID, "stat"); err == nil {
			device, err = parseTTY(stat)
		}
		if err == nil && !g.call.Valid() {
			err = unix.ESRCH
		}
		if err != nil || device == 0 {
			errno = unix.ENXIO // what the kernel says to who has none
			return
		}
		for stream := range 3 {
			fd, err := g.call.File(stream)
			if err != nil {
				continue
			}
			if isDevice(fd, device) {
				found = fd
				return
			}
			unix.Close(fd)
		}
	})
	if errno != 0 {
		return -1, errno
	}
	if found < 0 {
		path := "dev/pts/" + strconv.Itoa(int(unix.Minor(device)))
		fd, errno := openat2(g.root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if errno != 0 || !isDevice(fd, device) {
			closeAll(fd)
			return -1, unix.ENXIO
		}
		found = fd
	}
	defer unix.Close(found)
	// /dev/tty asks for no permission of the terminal itself.
	if err := w.grant(1 << unix.CAP_DAC_OVERRIDE); err != nil {
		return -1, errnoOf(err)
	}
	return w.reopen(found, x.how.Flags)
}

func isDevice(fd int, device uint64) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == device
}

// parseTTY returns the controlling terminal, field 7 of proc_pid_stat(5), 0 if there is none. The kernel writes the device the way
// new_encode_dev of <linux/kdev_t.h> does.
func parseTTY(stat []byte) (uint64, error) {
	const fieldsAfterName = 7 - 3
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte{')'})
	fields := bytes.Fields(rest)
	if !ok || len(fields) <= fieldsAfterName {
		return 0, errors.New("the task's stat has no terminal")
	}
	n, err := strconv.ParseInt(string(fields[fieldsAfterName]), 10, 32)
	if err != nil {
		return 0, err
	}
	d := uint32(n)
	return unix.Mkdev(d>>8&0xfff, d&0xff|d>>12&0xfff00), nil
}
