package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"
)

// defaultInterval is runc's.
const defaultInterval = 5 * time.Second

func (p *program) events() *cli.Command {
	return &cli.Command{
		Usage:     "display container events such as denials, OOM notifications, cpu, memory, and IO usage statistics",
		ArgsUsage: idUsage,
		Description: `Prints a line of JSON for each event until the container has stopped: statistics at every interval, processes killed for want
of memory, and what the container's policy has denied, from the container's creation on.`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Value: defaultInterval, Usage: "set the stats collection interval"},
			&cli.BoolFlag{Name: "stats", Usage: "display the container's stats then exit"},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			interval := c.Duration("interval")
			if interval <= 0 {
				return errors.New("duration interval must be greater than 0")
			}
			return p.runtime.Events(c.Args().First(), c.Bool("stats"), interval, p.stdout)
		},
	}
}
