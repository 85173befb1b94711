package main

import (
	"github.com/urfave/cli/v2"
)

func (p *program) inspect() *cli.Command {
	return &cli.Command{
		Usage:       "show what is in force for a container",
		ArgsUsage:   idUsage,
		Description: `Prints the plan that a container was made by: namespaces, mounts, rules, filters, limits, and what enforces each rule.`,
		Flags:       []cli.Flag{formatFlag(text)},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			inJSON, err := wantsJSON(c, text)
			if err != nil {
				return err
			}
			inspection, err := p.runtime.Inspect(c.Args().First())
			if err != nil {
				return err
			}
			if inJSON {
				return p.printJSON(inspection, "  ")
			}
			return inspection.WriteText(p.stdout)
		},
	}
}
