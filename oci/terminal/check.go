package terminal

import "errors"

// The contradictions between spec and flags, in runc's words.
var (
	errNoSocket     = errors.New("cannot allocate tty if runc will detach without setting console socket")
	errUnusedSocket = errors.New("cannot use console socket if runc will not detach or allocate tty")
)

// Check refuses what cannot work: a detached container with a terminal needs a console socket, to which the terminal goes;
// any other has no use for one. terminal is process.terminal of the spec; detach is true for create, too.
func Check(terminal, detach bool, consoleSocket string) error {
	if detach && terminal && consoleSocket == "" {
		return errNoSocket
	}
	if (!detach || !terminal) && consoleSocket != "" {
		return errUnusedSocket
	}
	return nil
}
