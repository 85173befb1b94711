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
			&cli.StringSliceFlag{Name: "cgroup", Usage: "run the process in an existing sub-cgroup, for all controllers or for those named (`[CONTROLLER[,CONTROLLER...]:]PATH`)"},
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
	if o.Cgroups, err = subCgroups(c.StringSlice("cgroup")); err != nil {
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

// subCgroups reads --cgroup, which has two forms: one path, or a path for controllers, as often as there are some left.
func subCgroups(values []string) (map[string]string, error) {
	var paths map[string]string
	for _, value := range values {
		controllers, path, named := strings.Cut(value, ":")
		if !named {
			if len(values) > 1 {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (missing <controller>: prefix)", value)
			}
			controllers, path = "", value
		}
		for _, controller := range strings.Split(controllers, ",") {
			if named && controller == "" {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (empty <controller> prefix)", value)
			}
			if _, twice := paths[controller]; twice {
				return nil, fmt.Errorf("invalid --cgroup argument(s): controller %s specified multiple times", controller)
			}
			if paths == nil {
				paths = make(map[string]string)
			}
			paths[controller] = path
		}
	}
	return paths, nil
}
