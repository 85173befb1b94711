package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) ps() *cli.Command {
	return &cli.Command{
		Usage:     "ps displays the processes running inside a container",
		ArgsUsage: idUsage + " [ps options]",
		Flags:     []cli.Flag{formatFlag(table)},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, -1); err != nil {
				return err
			}
			inJSON, err := wantsJSON(c, table)
			if err != nil {
				return err
			}
			pids, err := p.runtime.Processes(c.Args().First())
			if err != nil {
				return err
			}
			if inJSON {
				return p.printJSON(pids, "")
			}
			options := c.Args().Tail()
			if len(options) == 0 {
				options = []string{"-ef"}
			}
			output, err := exec.Command("ps", options...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("ps: %w: %s", err, output)
			}
			return printProcesses(p.stdout, string(output), pids)
		},
	}
}

// printProcesses prints those lines of ps's output that are about one of the pids, with the heading.
func printProcesses(w io.Writer, output string, pids []int) error {
	lines := strings.Split(output, "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errors.New("couldn't find PID field in ps output")
	}
	fmt.Fprintln(w, lines[0])
	for _, line := range lines[1:] {
		if line == "" {
			continue
		}
		fields := strings.Fields(line)
		if column >= len(fields) {
			return fmt.Errorf("unable to parse pid: %q has no column %d", line, column+1)
		}
		pid, err := strconv.Atoi(fields[column])
		if err != nil {
			return fmt.Errorf("unable to parse pid: %w", err)
		}
		if slices.Contains(pids, pid) {
			fmt.Fprintln(w, line)
		}
	}
	return nil
}
