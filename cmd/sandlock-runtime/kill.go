package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (p *program) kill() *cli.Command {
	return &cli.Command{
		Usage:     "kill sends the specified signal (default: SIGTERM) to the container's init process",
		ArgsUsage: idUsage + " [signal]",
		Description: `The signal is a number or a name, with or without SIG before it. SIGKILL for a container without a PID namespace of its own
goes to all of its processes.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "send the signal to all processes of the container"},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 2); err != nil {
				return err
			}
			signal := unix.SIGTERM
			if text := c.Args().Get(1); text != "" {
				var err error
				if signal, err = parseSignal(text); err != nil {
					return err
				}
			}
			return p.runtime.Kill(c.Args().First(), signal, c.Bool("all"))
		},
	}
}

// The real-time signals, see signal(7): the kernel's begin at 32, of which libc keeps two for itself.
const (
	realTimeMin = unix.Signal(34)
	realTimeMax = unix.Signal(64) // _NSIG, asm/signal.h
)

// parseSignal reads a signal as kill(1) takes it: 9, KILL, SIGKILL, RTMIN+2, RTMAX-1.
func parseSignal(text string) (unix.Signal, error) {
	unknown := fmt.Errorf("unknown signal %q", text)
	if number, err := strconv.Atoi(text); err == nil {
		if number < 0 || number > int(realTimeMax) {
			return 0, unknown
		}
		return unix.Signal(number), nil
	}
	short := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	base, offset := realTimeMin, ""
	switch {
	case strings.HasPrefix(short, "RTMIN"):
		offset = short[len("RTMIN"):]
	case strings.HasPrefix(short, "RTMAX"):
		base, offset = realTimeMax, short[len("RTMAX"):]
	default:
		if signal := unix.SignalNum("SIG" + short); signal != 0 {
			return signal, nil
		}
		return 0, unknown
	}
	if offset == "" {
		return base, nil
	}
	distance, err := strconv.Atoi(offset)
	signal := base + unix.Signal(distance)
	if err != nil || offset[0] != '+' && offset[0] != '-' || signal < realTimeMin || signal > realTimeMax {
		return 0, unknown
	}
	return signal, nil
}
