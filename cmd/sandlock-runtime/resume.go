package main

import "github.com/urfave/cli/v2"

func (p *program) resume() *cli.Command {
	return &cli.Command{
		Usage:     "resumes all processes that have been previously paused",
		ArgsUsage: idUsage,
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			return p.runtime.Resume(c.Args().First())
		},
	}
}
