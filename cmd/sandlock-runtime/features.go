package main

import (
	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

func (p *program) features() *cli.Command {
	return &cli.Command{
		Usage: "show the enabled features",
		Description: `Prints what this runtime knows, as JSON. The format is the runtime specification's:
https://github.com/opencontainers/runtime-spec/blob/main/features.md`,
		Action: func(c *cli.Context) error {
			if err := count(c, 0, 0); err != nil {
				return err
			}
			return p.printJSON(oci.Features(version, sourceRevision()), "    ")
		},
	}
}
