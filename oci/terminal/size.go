package terminal

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// SetSize gives a terminal the size that process.consoleSize asks for. Nil, or a side of zero, leaves it as it is, and a
// side of more than 65535 is an error: winsize of ioctl_tty(2) has no room for it.
func SetSize(master *os.File, size *specs.Box) error {
	if size == nil || size.Width == 0 || size.Height == 0 {
		return nil
	}
	const most = 1<<16 - 1
	if size.Width > most || size.Height > most {
		return fmt.Errorf("process.consoleSize: %d columns and %d rows are more than a terminal can have", size.Width, size.Height)
	}
	fd, err := descriptor(master)
	if err != nil {
		return err
	}
	err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(size.Width), Row: uint16(size.Height)})
	if err != nil {
		return fmt.Errorf("process.consoleSize: %w", os.NewSyscallError("TIOCSWINSZ", err))
	}
	return nil
}
