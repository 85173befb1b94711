package main

import (
	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci/state"
)

func (p *program) state() *cli.Command {
	return &cli.Command{
		Usage:       "output the state of a container",
		ArgsUsage:   idUsage,
		Description: `Prints the state of a container as JSON: the runtime specification's fields and, as runc does, rootfs, created and owner.`,
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			view, err := p.runtime.State(c.Args().First())
			if err != nil {
				return err
			}
			return state.WriteState(p.stdout, view)
		},
	}
}
