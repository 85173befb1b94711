package monitor

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/launch"
	"github.com/sandlock/sandlock-runtime/oci/plan"
)

// JoinRequest is a process that is to join a running container.
type JoinRequest struct {
	Plan    *plan.Plan
	Process plan.Process
	// Init is the container's first process, and its pidfd.
	InitPID int
	Init    *os.File
	Running bool // the container has been started
	State   specs.State
	Cgroup  *cgroup.Manager
	// Below are cgroups below the container's that the process goes into; see [cgroup.Manager.EnterBelow].
	Below   map[string]string
	Monitor interface {
		Ruleset() (*os.File, error)
		Listen(*os.File, int) error
	}

	PreserveFDs int
	FilterCache string
	// Streams become the process's standard ones; nil leaves it the caller's.
	Streams []*os.File
	// Console takes the master of the process's terminal, where it has one.
	Console func(master *os.File) error
	// Started is called when the process is there and has not run its program yet; an error ends it. The pidfd stays the caller's of Join.
	Started func(pid int, pidfd *os.File) error
}

// Join makes the process and lets it run its program. The process is the caller's child; the pidfd is the caller's to close. On error nothing is left.
func Join(r JoinRequest) (pid int, pidfd *os.File, err error) {
	h, err := r.hold()
	defer h.close()
	if err != nil {
		return 0, nil, err
	}
	own, err := sameNamespace(r.InitPID, "user")
	if err != nil {
		return 0, nil, err
	}
	l := r.Plan.Exec(h.Held, r.Process, own)
	if h.into > 0 {
		l.Options.Cgroup = h.into
	}
	if err := raiseLimits(r.Process.Rlimits); err != nil {
		return 0, nil, err
	}
	child, err := launch.Start(l.Program, l.Options)
	if err != nil {
		return 0, nil, err
	}
	defer child.Close()
	if err := r.walk(child, l); err != nil {
		_ = child.Kill() // it may have ended by itself
		Ended(child.PIDFD)
		_, _ = unix.Wait4(child.PID, nil, 0, nil) // a child of this process's, which has ended
		child.PIDFD.Close()
		return 0, nil, err
	}
	return child.PID, child.PIDFD, nil
}

func (r JoinRequest) walk(child *launch.Child, l *plan.Launch) error {
	first := child.PID
	for {
		at, err := child.Wait()
		if child.PID != first && first > 0 {
			_, _ = unix.Wait4(first, nil, 0, nil) // it has made its successor in the PID namespace, and is gone
			first = 0
		}
		if err != nil {
			return err
		}
		switch at {
		case l.Born:
			if err := r.Cgroup.AddPID(r.Below, child.PID); err != nil {
				return err
			}
		case l.Parked:
			if err := r.parked(child, l); err != nil {
				return err
			}
		case launch.Done:
			return nil
		}
		if err := child.Proceed(); err != nil {
			return err
		}
	}
}

// parked puts the process under the container's monitor before it runs anything.
func (r JoinRequest) parked(child *launch.Child, l *plan.Launch) error {
	if err := setOOMScore(child.PID, r.Process.OOMScoreAdj); err != nil {
		return err
	}
	if l.HasListener {
		listener, err := child.Take(l.Listener)
		if err != nil {
			return err
		}
		err = r.Monitor.Listen(listener, child.PID)
		listener.Close()
		if err != nil {
			return err
		}
	}
	if err := handOver(child, l, r.Plan.Seccomp, r.State); err != nil {
		return err
	}
	if l.HasTerminal {
		master, err := child.Take(l.Terminal)
		if err != nil {
			return err
		}
		if err := r.Console(master); err != nil {
			return err
		}
	}
	if r.Started == nil {
		return nil
	}
	return r.Started(child.PID, child.PIDFD)
}

// hold opens and compiles all that the launch program refers to.
func (r JoinRequest) hold() (h held, err error) {
	h.Preserve = r.PreserveFDs
	h.Container = launch.Inherited(int(r.Init.Fd()), "container")
	for _, f := range r.Streams {
		h.Streams = append(h.Streams, launch.Inherited(int(f.Fd()), "stream"))
	}
	if r.Streams == nil && !r.Process.Terminal {
		h.Null = nullStreams()
	}
	if r.Plan.Root.Joined {
		root, err := os.OpenFile("/proc/"+strconv.Itoa(r.InitPID)+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return h, err
		}
		h.files = append(h.files, root)
		fd := launch.Inherited(int(root.Fd()), "root")
		h.Root = &fd
	}
	entrance, err := r.entrance()
	if errors.Is(err, unix.ENOENT) {
		return h, fmt.Errorf("cgroup of the container: %w", err)
	}
	if err != nil {
		return h, err
	}
	h.enter(entrance)
	h.Wait = r.Cgroup.NeedsPID()
	// Before the container is started its first process still is the runtime's: nobody who is not under Landlock may be beside it.
	if r.Plan.Landlock != nil && (!r.Plan.Common(r.Process) || !r.Running) {
		ruleset, err := r.Monitor.Ruleset()
		if err != nil {
			return h, err
		}
		if ruleset == nil {
			return h, errors.New("the container's monitor has no Landlock ruleset to give")
		}
		h.files = append(h.files, ruleset)
		if r.Streams == nil {
			err = r.Plan.Landlock.AddOpened(int(ruleset.Fd()), 0, 1, 2)
		}
		if err == nil {
			err = r.Plan.Landlock.AddOpened(int(ruleset.Fd()), preserved(r.PreserveFDs)...)
		}
		if err != nil {
			return h, err
		}
		fd := launch.Inherited(int(ruleset.Fd()), "ruleset")
		h.Ruleset = &fd
	}
	h.Overlay, h.Spec, h.SpecFlags, err = filters(r.Plan, r.Process, r.FilterCache)
	return h, err
}

// entrance is the cgroup that the process is to be in.
func (r JoinRequest) entrance() (*cgroup.Entrance, error) {
	if len(r.Below) > 0 {
		return r.Cgroup.EnterBelow(r.Below)
	}
	return r.Cgroup.EnterBeside(r.InitPID)
}

// sameNamespace says whether a process is in the same namespace as the caller.
func sameNamespace(pid int, kind string) (bool, error) {
	var theirs, ours unix.Stat_t
	for path, st := range map[string]*unix.Stat_t{"/proc/" + strconv.Itoa(pid) + "/ns/" + kind: &theirs, "/proc/self/ns/" + kind: &ours} {
		if err := unix.Stat(path, st); err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
	}
	return theirs.Dev == ours.Dev && theirs.Ino == ours.Ino, nil
}
