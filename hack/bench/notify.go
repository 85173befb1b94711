package main

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

//go:embed floor/notify.c
var notifySource []byte

const (
	notifiedCalls  = 20000
	notifiedRounds = 15
)

// notifyProgram compiles the loop into the root, where containers find it as /bin/notify.
func (b *bench) notifyProgram() (string, error) {
	program, source := filepath.Join(b.root, "bin/notify"), filepath.Join(b.dir, "notify.c")
	if err := os.WriteFile(source, notifySource, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.Command("cc", "-O2", "-static", "-o", program, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cc: %w: %s", err, out)
	}
	return program, nil
}

// calls are what the loop printed in each round.
type calls struct{ mean, median, p99 samples }

// read appends what one loop printed, and fails if a call was not denied.
func (c *calls) read(printed string) error {
	var mean, median, p99 float64
	var passed int
	if _, err := fmt.Sscan(printed, &mean, &median, &p99, &passed); err != nil {
		return fmt.Errorf("the loop printed %q: %w", printed, err)
	}
	if passed > 0 {
		return fmt.Errorf("%d calls were not denied", passed)
	}
	c.mean, c.median, c.p99 = append(c.mean, time.Duration(mean)), append(c.median, time.Duration(median)), append(c.p99, time.Duration(p99))
	return nil
}

func (c *calls) print(name string) {
	fmt.Printf("%-34s %8.2f µs %8.2f µs %8.2f µs\n", name, microseconds(c.median.median()), microseconds(c.p99.median()), microseconds(c.mean.median()))
}

// compareCalls prints both, and what ours costs more in the rounds' median.
func compareCalls(name string, ours *calls, floorName string, floor *calls) {
	fmt.Printf("%-34s %11s %11s %11s\n", "", "median", "p99", "mean")
	floor.print(floorName)
	ours.print(name)
	fmt.Printf("%-34s %8.2f    %8.2f    %8.2f    (paired, round by round)\n", "ratio",
		pairedRatio(ours.median, floor.median), pairedRatio(ours.p99, floor.p99), pairedRatio(ours.mean, floor.mean))
}

// notify compares seccompnotif with the barest supervisor in C, on one victim, round by round: for a call that is answered
// without a look at anything, and for a connect that the egress handlers deny.
func (b *bench) notify() error {
	title("notify: one denied call, %d rounds of %d", notifiedRounds, notifiedCalls)
	program, err := b.notifyProgram()
	if err != nil {
		return err
	}
	for _, call := range []string{"getppid", "connect"} {
		table, err := deniedTable(call)
		if err != nil {
			return err
		}
		var floor, ours calls
		for round := range notifiedRounds {
			measure := []func() error{
				func() error {
					out, err := exec.Command(program, "floor", call, fmt.Sprint(notifiedCalls)).Output()
					if err != nil {
						return fmt.Errorf("floor: %w", err)
					}
					return floor.read(string(out))
				},
				func() error {
					out, err := supervised(program, call, table)
					if err != nil {
						return err
					}
					return ours.read(out)
				},
			}
			for i := range measure { // who is first changes from round to round
				if err := measure[(i+round)%2](); err != nil {
					return err
				}
			}
		}
		fmt.Println()
		compareCalls(call+", seccompnotif", &ours, call+", bare C supervisor", &floor)
	}
	return nil
}

// counting is a denial log that takes every denial for a repetition, which is what one is in all but the first of many.
type counting struct{}

func (counting) Repeats(netfilter.Denial) bool { return true }
func (counting) Add(netfilter.Denial)          {}

func deniedTable(call string) (*seccompnotif.Table, error) {
	table := seccompnotif.NewTable()
	if call == "getppid" {
		table.Handle(unix.SYS_GETPPID, seccompnotif.HandlerFunc(func(*seccompnotif.Call) seccompnotif.Action {
			return seccompnotif.Errno(unix.EACCES)
		}))
		return table.Build()
	}
	rules, err := netfilter.ParseRules([]string{"192.0.2.0/24"})
	if err != nil {
		return nil, err
	}
	egress, err := netfilter.NewEgress(netfilter.EgressConfig{Policy: netfilter.NewPolicy(nil, rules), Denials: counting{}})
	if err != nil {
		return nil, err
	}
	egress.Register(table)
	return table.Build()
}

// supervised runs the loop as a victim of this process, and returns what it printed.
func supervised(program, call string, table *seccompnotif.Table) (string, error) {
	supervisor, err := seccompnotif.New(seccompnotif.Config{Table: table, Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }})
	if err != nil {
		return "", err
	}
	defer supervisor.Close()
	number, numberEnd, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer number.Close()
	goEnd, goAhead, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer goAhead.Close()
	var out strings.Builder
	cmd := exec.Command(program, "victim", call, fmt.Sprint(notifiedCalls), "3", "4") // the first two of ExtraFiles
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, os.Stderr, []*os.File{goEnd, numberEnd}
	err = cmd.Start()
	goEnd.Close()
	numberEnd.Close()
	if err != nil {
		return "", err
	}
	if err := attach(supervisor, cmd.Process.Pid, number); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return "", err
	}
	if _, err := goAhead.Write([]byte{0}); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("victim: %w", err)
	}
	supervisor.Wait()
	return out.String(), nil
}

// attach takes the victim's listener, whose number it tells.
func attach(supervisor *seccompnotif.Supervisor, pid int, number io.Reader) error {
	var listener int32
	if err := binary.Read(number, binary.NativeEndian, &listener); err != nil {
		return fmt.Errorf("the victim did not come up: %w", err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	own, err := unix.PidfdGetfd(pidfd, int(listener), 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	return supervisor.Attach(own)
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
