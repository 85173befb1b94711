package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func (p *program) checkpoint() *cli.Command {
	return unsupported("checkpoint a running container")
}

func (p *program) restore() *cli.Command {
	return unsupported("restore a container from a previous checkpoint")
}

// unsupported is a verb of runc that this version lacks. Its flags are not looked at.
func unsupported(usage string) *cli.Command {
	return &cli.Command{
		Usage:           usage + " (not supported yet)",
		ArgsUsage:       idUsage,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			return fmt.Errorf("%s %s: not supported yet", name, c.Command.Name)
		},
	}
}
