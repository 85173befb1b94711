package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

func (p *program) exec() *cli.Command {
	return &cli.Command{
		Usage:     "execute new process inside the container",
		ArgsUsage: "<container-id> <command> [command options]  || -p process.json <container-id>",
		Description: `Runs a process in a container that is running, and exits like it. The process is what the command line says, with all else
as in the container's own process, or what process.json says.`,
		Flags: slices.Concat(processFlags("exec"), []cli.Flag{
			&cli.StringFlag{Name: "cwd", Usage: "working `DIRECTORY` in the container"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set environment variables (`NAME=VALUE`)"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "allocate a pseudo-TTY"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`UID[:GID]` of the process"},
			&cli.Int64SliceFlag{Name: "additional-gids", Aliases: []string{"g"}, Usage: "additional gids"},
			&cli.StringFlag{Name: "process", Aliases: []string{"p"}, Usage: "`FILE` with the process, as in config.json"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "do not wait for the process"},
			&cli.StringFlag{Name: "process-label", Usage: "SELinux label of the process"},
			&cli.StringFlag{Name: "apparmor", Usage: "AppArmor profile of the process"},
			&cli.BoolFlag{Name: "no-new-privs", Usage: "set no_new_privs for the process"},
			&cli.StringSliceFlag{Name: "cap", Aliases: []string{"c"}, Usage: "add a capability to the bounding, effective and permitted sets of the process"},
			&cli.StringSliceFlag{Name: "cgroup", Usage: "run the process in an existing sub-cgroup (cgroup v2 only)"},
			&cli.BoolFlag{Name: "ignore-paused", Usage: "allow exec in a paused container"},
		}),
		Action: func(c *cli.Context) error {
			if err := count(c, 1, -1); err != nil {
				return err
			}
			options, err := execOptions(c)
			var code int
			if err == nil {
				code, err = p.runtime.Exec(c.Args().First(), options)
			}
			if err != nil {
				return &exit{exitExecFailure, fmt.Errorf("exec failed: %w", err)}
			}
			return exitWith(code)
		},
	}
}

func execOptions(c *cli.Context) (oci.ExecOptions, error) {
	o := oci.ExecOptions{
		Args: c.Args().Tail(), Cwd: c.String("cwd"), Env: c.StringSlice("env"), TTY: c.Bool("tty"), User: c.String("user"),
		AdditionalGIDs: c.Int64Slice("additional-gids"), Caps: c.StringSlice("cap"),
		AppArmor: c.String("apparmor"), ProcessLabel: c.String("process-label"),
		Detach: c.Bool("detach"), ConsoleSocket: c.String("console-socket"), PidfdSocket: c.String("pidfd-socket"),
		PreserveFDs: c.Int("preserve-fds"), IgnorePaused: c.Bool("ignore-paused"),
	}
	if len(o.Args) > 0 && o.Args[0] == "--" {
		o.Args = o.Args[1:]
	}
	if c.IsSet("no-new-privs") {
		wanted := c.Bool("no-new-privs")
		o.NoNewPrivs = &wanted
	}
	if o.PreserveFDs < 0 {
		return o, fmt.Errorf("--preserve-fds: %d is negative", o.PreserveFDs)
	}
	var err error
	if o.Cgroup, err = subCgroup(c.StringSlice("cgroup")); err != nil {
		return o, err
	}
	if o.PidFile, err = absolute(c, "pid-file"); err != nil {
		return o, err
	}
	if o.Process, err = absolute(c, "process"); err != nil {
		return o, err
	}
	if o.Process == "" && len(o.Args) == 0 {
		return o, fmt.Errorf("exec args cannot be empty")
	}
	return o, nil
}

// subCgroup reads --cgroup, of which runc has two forms: a path, and controllers with a path each.
func subCgroup(values []string) (string, error) {
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("--cgroup: given more than once, which is not supported")
	case strings.Contains(values[0], ":"):
		return "", fmt.Errorf("--cgroup: %s: a path for each controller is not supported", values[0])
	}
	return values[0], nil
}
