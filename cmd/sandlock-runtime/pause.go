package main

import "github.com/urfave/cli/v2"

func (p *program) pause() *cli.Command {
	return &cli.Command{
		Usage:     "pause suspends all processes inside the container",
		ArgsUsage: idUsage,
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			return p.runtime.Pause(c.Args().First())
		},
	}
}
