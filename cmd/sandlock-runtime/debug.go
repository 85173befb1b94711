package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func (p *program) debug() *cli.Command {
	return &cli.Command{
		Usage:  "look into the runtime itself",
		Hidden: true,
		Subcommands: []*cli.Command{{
			Name:         "launch",
			Usage:        "print the launch program of a bundle: the system calls that make its container",
			Flags:        []cli.Flag{bundleFlag()},
			OnUsageError: usageError,
			Action: func(c *cli.Context) error {
				if err := count(c, 0, 0); err != nil {
					return err
				}
				bundle, err := absolute(c, "bundle")
				if err != nil {
					return err
				}
				program, err := p.runtime.LaunchProgram(bundle)
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(p.stdout, program)
				return err
			},
		}},
	}
}
