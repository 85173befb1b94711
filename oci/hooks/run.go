package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// lingering is how long the output of a hook that has ended is still waited for: a process it left in the background may
// hold it open for ever.
const lingering = time.Second

// Option changes how hooks are run.
type Option func(*runner)

type runner struct {
	spawn Spawner
	env   []string
}

// With starts the hooks by s, for the kinds that run in the container's namespaces.
func With(s Spawner) Option { return func(r *runner) { r.spawn = s } }

// DefaultEnv is the environment of hooks that bring none. Without this option it is the runtime's own for hooks that run in the runtime's namespaces, and
// empty for others. runc gives startContainer hooks that of the container's process.
func DefaultEnv(env []string) Option { return func(r *runner) { r.env = env } }

// Run runs hooks in order, each to its end, with state on its standard input. When ctx ends, the hook that runs is killed.
//
// The first failure ends the run, and is the error: it must end the container, too. (So say the runtime specification and
// runc; poststart is no exception.) Of poststop hooks all are run, and the error, for the log, joins all failures: the
// specification wants it so. runc stops at the first there.
func Run(ctx context.Context, kind Kind, list []specs.Hook, state *specs.State, opts ...Option) error {
	if len(list) == 0 {
		return nil
	}
	r := runner{spawn: Spawn}
	if !kind.InContainer() {
		r.env = os.Environ()
	}
	for _, o := range opts {
		o(&r)
	}
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("state for %s hooks: %w", kind, err)
	}
	var failures []error
	for i, hook := range list {
		err := r.run(ctx, hook, text)
		if err == nil {
			continue
		}
		err = fmt.Errorf("error running %s hook #%d: %w", kind, i, err)
		if kind != Poststop {
			return err
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (r *runner) run(ctx context.Context, hook specs.Hook, state []byte) error {
	if hook.Timeout != nil {
		limit := time.Duration(*hook.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, timeoutError(limit))
		defer cancel()
	}
	cmd := command(hook, r.env)
	var err error
	if cmd.Stdin, err = stdin(state); err != nil {
		return err
	}
	defer cmd.Stdin.Close()
	stdout, err := newCapture()
	if err != nil {
		return err
	}
	defer stdout.close()
	stderr, err := newCapture()
	if err != nil {
		return err
	}
	defer stderr.close()
	cmd.Stdout, cmd.Stderr = stdout.write, stderr.write

	process, err := r.spawn(cmd)
	stdout.started()
	stderr.started()
	if err != nil {
		return err
	}
	err = wait(ctx, process)
	deadline := time.Now().Add(lingering)
	out, errs := stdout.text(deadline), stderr.text(deadline)
	if err != nil && !errors.As(err, new(timeoutError)) {
		return fmt.Errorf("%w, stdout: %s, stderr: %s", err, out, errs)
	}
	return err
}

// wait waits for the process and kills it, with its group, when ctx ends before.
func wait(ctx context.Context, p Process) error {
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	p.Kill()
	<-done //nolint:errcheck // killed, of course
	return context.Cause(ctx)
}

// timeoutError says, in runc's words, that a hook took longer than it may.
type timeoutError time.Duration

func (e timeoutError) Error() string {
	return fmt.Sprintf("hook ran past specified timeout of %.1fs", time.Duration(e).Seconds())
}

// command translates a hook. Without args, the path is its own argv[0].
func command(hook specs.Hook, defaultEnv []string) *Command {
	c := &Command{Path: hook.Path, Args: hook.Args, Env: hook.Env}
	if len(c.Args) == 0 {
		c.Args = []string{hook.Path}
	}
	if len(c.Env) == 0 {
		c.Env = defaultEnv
	}
	if c.Env == nil {
		c.Env = []string{} // nil would mean "inherit" to os/exec
	}
	return c
}

// stdin puts text into an anonymous file, sealed: unlike a pipe it takes any length without a writer, and a hook in the
// container cannot change what another process sees of it.
func stdin(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("hook-state", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "hook-state")
	_, err = f.Write(text)
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err == nil {
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		_ = f.Close() // it is memory, and not used
		return nil, fmt.Errorf("hook's standard input: %w", err)
	}
	return f, nil
}
