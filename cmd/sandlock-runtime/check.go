package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

func (p *program) check() *cli.Command {
	return &cli.Command{
		Usage:       "tell what this host gives and lacks",
		Description: `Prints what containers can have on this host, and fails where something lacks without which no container runs.`,
		Flags:       []cli.Flag{formatFlag(table)},
		Action: func(c *cli.Context) error {
			if err := count(c, 0, 0); err != nil {
				return err
			}
			inJSON, err := wantsJSON(c, table)
			if err != nil {
				return err
			}
			report := oci.Check()
			if inJSON {
				err = report.WriteJSON(p.stdout)
			} else {
				err = report.WriteTable(p.stdout)
			}
			if err != nil {
				return err
			}
			if lacking := report.Lacking(); lacking != "" {
				return fmt.Errorf("this host lacks: %s", lacking)
			}
			return nil
		},
	}
}
