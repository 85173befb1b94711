package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

func (p *program) update() *cli.Command {
	return &cli.Command{
		Usage:     "update container resource constraints",
		ArgsUsage: idUsage,
		Description: `Changes the limits of a container. Limits that are not named stay as they are, and none can be raised above what the
container's policy allows. The FILE of --resources is JSON like linux.resources in config.json; with it, the
other flags are ignored.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "resources", Aliases: []string{"r"}, Usage: "`FILE` with the resources to update, or '-' for standard input"},
			&cli.IntFlag{Name: "blkio-weight", Usage: "per cgroup weight, range is from 10 to 1000"},
			&cli.StringFlag{Name: "cpu-period", Usage: "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default"},
			&cli.StringFlag{Name: "cpu-quota", Usage: "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period"},
			&cli.StringFlag{Name: "cpu-burst", Usage: "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period"},
			&cli.StringFlag{Name: "cpu-share", Usage: "CPU shares (relative weight vs. other containers)"},
			&cli.StringFlag{Name: "cpu-rt-period", Usage: "CPU realtime period to be used for hardcapping (in usecs). 0 to use system default"},
			&cli.StringFlag{Name: "cpu-rt-runtime", Usage: "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period"},
			&cli.StringFlag{Name: "cpuset-cpus", Usage: "CPU(s) to use"},
			&cli.StringFlag{Name: "cpuset-mems", Usage: "memory node(s) to use"},
			&cli.StringFlag{Name: "cpu-idle", Usage: "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"},
			&cli.StringFlag{Name: "kernel-memory", Usage: "ignored", Hidden: true},
			&cli.StringFlag{Name: "kernel-memory-tcp", Usage: "ignored", Hidden: true},
			&cli.StringFlag{Name: "memory", Usage: "memory limit (in bytes)"},
			&cli.StringFlag{Name: "memory-reservation", Usage: "memory reservation or soft_limit (in bytes)"},
			&cli.StringFlag{Name: "memory-swap", Usage: "total memory usage (memory + swap); set '-1' to enable unlimited swap"},
			&cli.IntFlag{Name: "pids-limit", Usage: "maximum number of pids allowed in the container"},
			&cli.StringFlag{Name: "l3-cache-schema", Usage: "refused: Intel RDT is not supported", Hidden: true},
			&cli.StringFlag{Name: "mem-bw-schema", Usage: "refused: Intel RDT is not supported", Hidden: true},
		},
		Action: func(c *cli.Context) error {
			if err := count(c, 1, 1); err != nil {
				return err
			}
			for _, flag := range []string{"l3-cache-schema", "mem-bw-schema"} {
				if c.String(flag) != "" {
					return fmt.Errorf("--%s: Intel RDT is not supported", flag)
				}
			}
			var resources specs.LinuxResources
			var err error
			if file := c.String("resources"); file != "" {
				resources, err = p.readResources(file)
			} else {
				resources, err = p.resourcesOf(c)
			}
			if err != nil {
				return err
			}
			return p.runtime.Update(c.Args().First(), &resources)
		},
	}
}

// maxResources bounds what is read of --resources, in bytes.
const maxResources = 1 << 20

// readResources reads the argument of --resources.
func (p *program) readResources(file string) (r specs.LinuxResources, err error) {
	in := p.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return r, fmt.Errorf("--resources: %w", err)
		}
		defer f.Close()
		in = f
	}
	decoder := json.NewDecoder(io.LimitReader(in, maxResources))
	if err := decoder.Decode(&r); err != nil {
		return r, fmt.Errorf("--resources: %s: %w", file, err)
	}
	return r, nil
}

// resourcesOf makes resources of the individual flags. What was not given is nil or empty.
func (p *program) resourcesOf(c *cli.Context) (specs.LinuxResources, error) {
	var r specs.LinuxResources
	for _, flag := range []string{"kernel-memory", "kernel-memory-tcp"} {
		var ignored *int64
		if err := number(c, flag, &ignored, parseBytes); err != nil {
			return r, err
		}
		if ignored != nil {
			p.runtime.Log.Warnf("--%s is ignored: the kernel has no such limit any more", flag)
		}
	}
	cpu := specs.LinuxCPU{Cpus: c.String("cpuset-cpus"), Mems: c.String("cpuset-mems")}
	memory := specs.LinuxMemory{}
	for _, err := range []error{
		number(c, "cpu-period", &cpu.Period, parseUnsigned), number(c, "cpu-burst", &cpu.Burst, parseUnsigned),
		number(c, "cpu-share", &cpu.Shares, parseUnsigned), number(c, "cpu-rt-period", &cpu.RealtimePeriod, parseUnsigned),
		number(c, "cpu-quota", &cpu.Quota, parseSigned), number(c, "cpu-rt-runtime", &cpu.RealtimeRuntime, parseSigned),
		number(c, "cpu-idle", &cpu.Idle, parseSigned),
		number(c, "memory", &memory.Limit, parseBytes), number(c, "memory-swap", &memory.Swap, parseBytes),
		number(c, "memory-reservation", &memory.Reservation, parseBytes),
	} {
		if err != nil {
			return r, err
		}
	}
	r.CPU, r.Memory = &cpu, &memory
	if c.IsSet("pids-limit") {
		limit := int64(c.Int("pids-limit"))
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	if weight := c.Int("blkio-weight"); weight != 0 {
		small := uint16(weight)
		if int(small) != weight {
			return r, fmt.Errorf("invalid value for blkio-weight: %d: expected 10 to 1000", weight)
		}
		r.BlockIO = &specs.LinuxBlockIO{Weight: &small}
	}
	return r, nil
}

// number reads a flag into *to, which stays nil where the flag is not given.
func number[T any](c *cli.Context, flag string, to **T, parse func(string) (T, error)) error {
	text := c.String(flag)
	if text == "" {
		return nil
	}
	value, err := parse(text)
	if err != nil {
		var syntax *strconv.NumError
		if errors.As(err, &syntax) {
			err = syntax.Err
		}
		return fmt.Errorf("invalid value for %s: %q: %w", flag, text, err)
	}
	*to = &value
	return nil
}

func parseUnsigned(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) }
func parseSigned(text string) (int64, error)    { return strconv.ParseInt(text, 10, 64) }
