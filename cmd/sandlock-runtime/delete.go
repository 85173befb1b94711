package main

import "github.com/urfave/cli/v2"

func (p *program) delete() *cli.Command {
	return &cli.Command{
		Usage:     "delete any resources held by the container often used with detached container",
		ArgsUsage: idUsage,
		Description: `Removes what is left of a container that has stopped: its state, its cgroup and whatever else it held. A container that was
created and never started is killed first; one that runs, only with --force.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "forcibly delete the container if it is still running (uses SIGKILL)"},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			return p.runtime.Delete(c.Args().First(), c.Bool("force"))
		},
	}
}
