//go:build deps

// Package deps keeps the modules of the first build in go.mod until each has its first real user.
package deps

import (
	_ "github.com/containerd/console"
	_ "github.com/cyphar/filepath-securejoin"
	_ "github.com/landlock-lsm/go-landlock/landlock/syscall"
	_ "github.com/moby/sys/capability"
	_ "github.com/moby/sys/mountinfo"
	_ "github.com/moby/sys/user"
	_ "github.com/opencontainers/cgroups/manager"
	_ "github.com/opencontainers/cgroups/systemd"
	_ "github.com/opencontainers/runc/libcontainer/specconv"
	_ "github.com/opencontainers/runtime-spec/specs-go"
	_ "github.com/opencontainers/runtime-spec/specs-go/features"
	_ "github.com/pelletier/go-toml/v2"
	_ "github.com/seccomp/libseccomp-golang"
	_ "github.com/sirupsen/logrus"
	_ "github.com/urfave/cli/v2"
	_ "golang.org/x/net/bpf"
	_ "golang.org/x/sys/unix"
)
