package main

import (
	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

func (p *program) spec() *cli.Command {
	return &cli.Command{
		Usage:       "create a new specification file",
		Description: `Writes a config.json to start from, for a bundle whose root filesystem is in rootfs and has a shell. A file that is there is left alone.`,
		Flags: []cli.Flag{
			bundleFlag(),
			&cli.BoolFlag{Name: "rootless", Usage: "generate a configuration for a rootless container"},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 0, 0); err != nil {
				return err
			}
			return oci.WriteSpec(c.String("bundle"), c.Bool("rootless"))
		},
	}
}
