package main

import "github.com/urfave/cli/v2"

func (p *program) start() *cli.Command {
	return &cli.Command{
		Usage:       "executes the user defined process in a created container",
		ArgsUsage:   idUsage,
		Description: `Lets the process of a created container run.`,
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			return p.runtime.Start(c.Args().First())
		},
	}
}
