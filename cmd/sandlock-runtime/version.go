package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/sandlock/sandlock-runtime/oci"
)

// version and commit are set by the build: -ldflags "-X main.version=... -X main.commit=...".
var (
	version = "0.1.0-dev"
	commit  = ""
)

// printVersion prints what runc --version does, which Docker reads.
func (p *program) printVersion(*cli.Context) {
	fmt.Fprintln(p.stdout, name, "version", version)
	if revision := sourceRevision(); revision != "" {
		fmt.Fprintln(p.stdout, "commit:", revision)
	}
	fmt.Fprintln(p.stdout, "spec:", specs.Version)
	fmt.Fprintln(p.stdout, "go:", runtime.Version())
	fmt.Fprintln(p.stdout, "libseccomp:", oci.LibseccompVersion())
}

// sourceRevision is the commit that the program was built from; what the Go command has noted, where the build says nothing.
func sourceRevision() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	revision, modified := "", ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			revision = setting.Value
		case "vcs.modified":
			if setting.Value == "true" {
				modified = "-dirty"
			}
		}
	}
	if revision == "" {
		return ""
	}
	return revision + modified
}
