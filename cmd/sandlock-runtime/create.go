package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

func (p *program) create() *cli.Command {
	return &cli.Command{
		Usage:     "create a container",
		ArgsUsage: idUsage,
		Description: `Makes a container of a bundle, up to the point where its process could run. The process runs when the container is
started. The name of the container is unique on the host.`,
		Flags: creationFlags(),
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			options, err := creationOptions(c)
			if err == nil {
				err = p.runtime.Create(c.Args().First(), options)
			}
			if err != nil {
				return fmt.Errorf("%s create failed: %w", name, err)
			}
			return nil
		},
	}
}

// bundleFlag names the bundle.
func bundleFlag() cli.Flag {
	return &cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "`DIRECTORY` of the bundle (default: the working directory)"}
}

// creationFlags are those that create and run share.
func creationFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{bundleFlag()}, processFlags("init"), []cli.Flag{
		&cli.BoolFlag{Name: "no-pivot", Usage: "accepted; the root is changed with pivot_root all the same"},
		&cli.BoolFlag{Name: "no-new-keyring", Usage: "let the container keep the caller's session keyring"},
	})
}

// processFlags are those that create, run and exec share.
func processFlags(process string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "console-socket", Usage: "`PATH` of an AF_UNIX socket that receives the master end of the console's pseudoterminal"},
		&cli.StringFlag{Name: "pidfd-socket", Usage: "`PATH` of an AF_UNIX socket that receives a pidfd of the " + process + " process"},
		&cli.StringFlag{Name: "pid-file", Usage: "`FILE` to write the process id to"},
		&cli.IntFlag{Name: "preserve-fds", Usage: "pass `N` additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)"},
	}
}

// creationOptions reads the flags that create and run share.
func creationOptions(c *cli.Context) (oci.CreateOptions, error) {
	o := oci.CreateOptions{
		ConsoleSocket: c.String("console-socket"),
		PidfdSocket:   c.String("pidfd-socket"),
		NoPivot:       c.Bool("no-pivot"),
		NoNewKeyring:  c.Bool("no-new-keyring"),
		PreserveFDs:   c.Int("preserve-fds"),
	}
	if o.PreserveFDs < 0 {
		return o, fmt.Errorf("--preserve-fds: %d is negative", o.PreserveFDs)
	}
	var err error
	if o.Bundle, err = absolute(c, "bundle"); err != nil {
		return o, err
	}
	o.PidFile, err = absolute(c, "pid-file")
	return o, err
}

// absolute is the path in a flag, made absolute; "" stays.
func absolute(c *cli.Context, flag string) (string, error) {
	path := c.String(flag)
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	return path, nil
}
