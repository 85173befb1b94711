package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

const usage = "OCI runtime whose containers carry their own rules for files, network and resources"

const description = `Takes an OCI bundle, a directory with a config.json and a root filesystem, and runs it as a container, confined by the
bundle's own configuration and by the policy that annotations, a profile and the operator's configuration state.

To start a container:

    # sandlock-runtime run [ -b bundle ] <container-id>

The name of the container is unique on the host. The bundle is the working directory unless -b names another.`

// app describes the command line. Only the verb that is called is described in full; all of them are when none is, for help.
func (p *program) app(args []string) *cli.App {
	cli.VersionPrinter = p.printVersion
	return &cli.App{
		Name:        name,
		Usage:       usage,
		Description: description,
		Version:     version,
		Flags:       globalFlags(),
		Commands:    p.commands(verbOf(args)),
		Before:      p.prepare,
		Action:      noVerb,
		// A value may well have a comma in it.
		DisableSliceFlagSeparator: true,
		OnUsageError:              usageError,
		// Errors and exit codes are run's business.
		ExitErrHandler: func(*cli.Context, error) {},
		// Not known, and finding out would cost a look at the file.
		Compiled:  time.Unix(1, 0),
		Writer:    p.stdout,
		ErrWriter: p.stderr,
		Reader:    p.stdin,
	}
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "debug", Usage: "enable debug logging"},
		&cli.StringFlag{Name: "log", Usage: "write the log to this `FILE` (default: stderr)"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "format of the log: text or json"},
		&cli.StringFlag{Name: "root", Value: defaultRoot(), Usage: "`DIRECTORY` of the containers' state (this should be located in tmpfs)"},
		&cli.BoolFlag{Name: "systemd-cgroup", Usage: `let systemd make the cgroups; cgroupsPath is of the form "slice:prefix:name", as in "system.slice:runc:434234"`},
		&cli.StringFlag{Name: "cgroup-manager", Value: "cgroupfs", Usage: "who makes the cgroups: cgroupfs, systemd (as with --systemd-cgroup), or disabled for none, as podman has it"},
		&cli.StringFlag{Name: "rootless", Value: "auto", Usage: "ignore cgroup permission errors: true, false or auto"},
		&cli.StringFlag{Name: "criu", Usage: "ignored", Hidden: true},
		&cli.StringFlag{Name: "config", Usage: "`FILE` with the operator's configuration (default: /etc/sandlock/config.toml, if there is one)"},
		&cli.StringFlag{Name: "profile", Usage: "`NAME` of the profile that containers start from (default: the operator's)"},
	}
}

// defaultRoot is where state is kept without --root: for users other than root below $XDG_RUNTIME_DIR, if there is one.
func defaultRoot() string {
	if dir := userRuntimeDir(); dir != "" {
		return filepath.Join(dir, "sandlock")
	}
	return oci.DefaultRoot
}

// userRuntimeDir is $XDG_RUNTIME_DIR where it is to be used, as runc decides it: never by root of the host, who may have
// kept the variable of another user.
func userRuntimeDir() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" || !filepath.IsAbs(dir) || os.Geteuid() == 0 && (!oci.InUserNamespace() || os.Getenv("USER") == "root") {
		return ""
	}
	return dir
}

// prepare turns the global flags into the runtime.
func (p *program) prepare(c *cli.Context) error {
	runtime := &oci.Runtime{
		SystemdCgroup: c.Bool("systemd-cgroup"),
		Config:        c.String("config"),
		Profile:       c.String("profile"),
	}
	switch manager := c.String("cgroup-manager"); manager {
	case "cgroupfs":
	case "systemd":
		runtime.SystemdCgroup = true
	case "disabled":
		if runtime.SystemdCgroup {
			return errors.New("--cgroup-manager disabled and --systemd-cgroup exclude each other")
		}
		runtime.NoCgroup = true
	default:
		return fmt.Errorf("--cgroup-manager: %q is none of cgroupfs, systemd, disabled", manager)
	}
	var err error
	if runtime.Root, err = stateRoot(c); err != nil {
		return err
	}
	if runtime.Rootless, err = oci.Rootless(c.String("rootless"), runtime.SystemdCgroup); err != nil {
		return err
	}
	if runtime.Log, err = p.newLog(c.Bool("debug"), c.String("log"), c.String("log-format")); err != nil {
		return err
	}
	runtime.LogFile = c.String("log") != ""
	p.runtime = runtime
	return nil
}

// stateRoot is the absolute path that --root names.
func stateRoot(c *cli.Context) (string, error) {
	root := c.String("root")
	if !c.IsSet("root") {
		if userRuntimeDir() == "" {
			return root, nil
		}
		// What lies in $XDG_RUNTIME_DIR may be removed unless it has the sticky bit, says the XDG base directory specification.
		const mode = 0o700 | os.ModeSticky
		if err := os.MkdirAll(root, mode); err != nil {
			return "", fmt.Errorf("$XDG_RUNTIME_DIR: %w", err)
		}
		return root, os.Chmod(root, mode)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("--root: %w", err)
	}
	if root == "/" {
		return "", errors.New("option --root argument should not be set to /")
	}
	return root, nil
}

// newLog makes the log: on stderr unless file names another place.
func (p *program) newLog(debug bool, file, format string) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(p.stderr)
	if debug {
		log.SetLevel(logrus.DebugLevel)
	}
	switch format {
	case "", "text":
	case "json":
		log.SetFormatter(new(logrus.JSONFormatter))
	default:
		return nil, fmt.Errorf("invalid log-format: %s", format)
	}
	if file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, fmt.Errorf("--log: %w", err)
		}
		log.SetOutput(f)
	}
	return log, nil
}

// noVerb is what happens where the first argument is not a verb.
func noVerb(c *cli.Context) error {
	if c.NArg() == 0 {
		return cli.ShowAppHelp(c)
	}
	return &exit{exitUnknownVerb, fmt.Errorf("unknown command %q: see %s --help", c.Args().First(), name)}
}

// usageError leaves the help out, so that an error is one line.
func usageError(_ *cli.Context, err error, _ bool) error { return err }
