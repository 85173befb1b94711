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
of memory, and what the container's policy has denied, from the container's creation on.

With --follow it is only what the policy has denied, and what an agent has allowed to be on record: flat objects with time, verdict, pid,
comm, syscall, target, rule and its source. The records of a container that has stopped are printed, too.`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Value: defaultInterval, Usage: "set the stats collection interval"},
			&cli.BoolFlag{Name: "stats", Usage: "display the container's stats then exit"},
			&cli.BoolFlag{Name: "follow", Usage: "display denials and audit verdicts alone, as they come"},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			interval := c.Duration("interval")
			if interval <= 0 {
				return errors.New("duration interval must be greater than 0")
			}
			if c.Bool("follow") {
				if c.Bool("stats") {
					return errors.New("--follow and --stats exclude each other")
				}
				return p.runtime.Follow(c.Args().First(), p.stdout)
			}
			return p.runtime.Events(c.Args().First(), c.Bool("stats"), interval, p.stdout)
		},
	}
}
