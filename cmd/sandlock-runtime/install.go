package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

// registryUsage is the argument of install and uninstall.
const registryUsage = "docker|containerd"

func (p *program) install() *cli.Command {
	return &cli.Command{
		Usage:     "register this runtime with Docker or containerd",
		ArgsUsage: registryUsage,
		Description: `Adds this runtime to Docker's daemon.json or to containerd's config.toml (version 2 to 4). What else is in the file stays, and
the file as it was is kept beside it. Registering again changes nothing. The daemon has to be told to read its file.`,
		Flags: append(registryFlags(),
			&cli.StringFlag{Name: "path", Usage: "`FILE` of the runtime's executable (default: this one)"},
			&cli.StringFlag{Name: "profile", Usage: "`NAME` of the profile that the runtime's containers start from; Docker only"},
		),
		Action: func(c *cli.Context) error {
			return p.register(c, func(r oci.Registration) (*oci.RegistryChange, error) {
				r.Executable, r.Profile = c.String("path"), c.String("profile")
				return r.Install()
			})
		},
	}
}

func (p *program) uninstall() *cli.Command {
	return &cli.Command{
		Usage:     "take the registration with Docker or containerd back",
		ArgsUsage: registryUsage,
		Description: `Takes back what install did. If the file has not been changed otherwise since, it becomes what it was before, to the letter. The
daemon has to be told to read its file.`,
		Flags: registryFlags(),
		Action: func(c *cli.Context) error {
			return p.register(c, oci.Registration.Uninstall)
		},
	}
}

func registryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Value: "sandlock", Usage: "`NAME` by which the runtime is chosen"},
		&cli.StringFlag{Name: "file", Usage: "configuration `FILE` (default: the daemon's own default)"},
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would be changed, and change nothing"},
	}
}

// register plans a change of a daemon's configuration, and makes or shows it.
func (p *program) register(c *cli.Context, plan func(oci.Registration) (*oci.RegistryChange, error)) error {
	if err := count(c, 1, 1); err != nil {
		return err
	}
	daemon := oci.Daemon(c.Args().First())
	if daemon != oci.Docker && daemon != oci.Containerd {
		return errors.New("install and uninstall: expected docker or containerd, not " + c.Args().First())
	}
	change, err := plan(oci.Registration{Daemon: daemon, File: c.String("file"), Name: c.String("name")})
	if err != nil {
		return err
	}
	switch {
	case change.None():
		_, err = fmt.Fprintf(p.stdout, "%s: nothing to change\n", change.Path)
		return err
	case c.Bool("dry-run"):
		_, err = p.stdout.Write(change.Diff())
		return err
	}
	if err := change.Apply(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s: changed; %s\n", change.Path, daemon.Reload())
	return err
}
