package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

func (p *program) runContainer() *cli.Command {
	return &cli.Command{
		Usage:       "create and run a container",
		ArgsUsage:   idUsage,
		Description: `Creates a container of a bundle and starts it. In the foreground it exits like the container's process, and the container is deleted.`,
		Flags: append(creationFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave the container running in the background"},
			&cli.BoolFlag{Name: "keep", Usage: "do not delete the container after it exits"},
			&cli.BoolFlag{Name: "no-subreaper", Usage: "ignored: the container's processes are never reparented to the caller"},
		),
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			options, err := creationOptions(c)
			var code int
			if err == nil {
				code, err = p.runtime.Run(c.Args().First(), oci.RunOptions{CreateOptions: options, Detach: c.Bool("detach"), Keep: c.Bool("keep")})
			}
			if err != nil {
				return fmt.Errorf("%s run failed: %w", name, err)
			}
			return exitWith(code)
		},
	}
}

// exitWith is the outcome of a verb that exits like the process that it ran.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &exit{code: code}
}
