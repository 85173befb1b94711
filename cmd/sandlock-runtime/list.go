package main

import (
	"errors"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci/state"
)

func (p *program) list() *cli.Command {
	return &cli.Command{
		Usage:       "lists containers started by " + name + " with the given root",
		Description: `The root is what the global option --root names.`,
		Flags: []cli.Flag{
			formatFlag(table),
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "display only container IDs"},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 0, 0); err != nil {
				return err
			}
			inJSON, err := wantsJSON(c, table)
			if err != nil {
				return err
			}
			views, err := p.runtime.List()
			// The default root is made with the first container.
			if errors.Is(err, fs.ErrNotExist) && !c.IsSet("root") {
				views, err = nil, nil
			}
			if err != nil {
				return err
			}
			switch {
			case c.Bool("quiet"):
				return state.WriteIDs(p.stdout, views)
			case inJSON:
				return state.WriteJSON(p.stdout, views)
			}
			return state.WriteTable(p.stdout, views)
		},
	}
}
