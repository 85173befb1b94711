package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed floor/connect.c
var connectSource []byte

const (
	connectsPerRound = 20000
	connectRounds    = 9
)

// connect compares a denied connect in a container with one under the barest supervisor, round by round.
func (b *bench) connect() error {
	title("connect: one denied connect, %d rounds of %d", connectRounds, connectsPerRound)
	program := filepath.Join(b.root, "bin/connect")
	source := filepath.Join(b.dir, "connect.c")
	if err := os.WriteFile(source, connectSource, 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("cc", "-O2", "-static", "-o", program, source).CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	var floor, ours samples
	for round := range connectRounds {
		out, err := exec.Command(program, "floor", fmt.Sprint(connectsPerRound)).Output()
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		if floor, err = readConnect(floor, string(out)); err != nil {
			return err
		}
		if out, err := b.deniedConnects(round); err != nil {
			return err
		} else if ours, err = readConnect(ours, out); err != nil {
			return err
		}
	}
	fmt.Printf("%-20s %8.2f µs\n", "bare C supervisor", microseconds(floor.median()))
	fmt.Printf("%-20s %8.2f µs       %.2f of it (paired %.2f)\n", b.ours.name, microseconds(ours.median()), float64(ours.median())/float64(floor.median()), pairedRatio(ours, floor))
	return nil
}

// deniedConnects runs the loop in a container under a deny rule and returns what it printed.
func (b *bench) deniedConnects(round int) (string, error) {
	id := fmt.Sprintf("bench-connect-%d-%d", os.Getpid(), round)
	dir, err := b.bundle(id, map[string]string{"io.sandlock.network.deny": "192.0.2.0/24"}, "/bin/connect", "loop", fmt.Sprint(connectsPerRound))
	if err != nil {
		return "", err
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		return "", err
	}
	defer out.Close()
	if err := b.ours.do(out, "run", "--bundle", dir, id); err != nil {
		return "", err
	}
	text, err := os.ReadFile(out.Name())
	return string(text), err
}

// readConnect appends what one loop printed, and fails if a connect was not denied.
func readConnect(to samples, printed string) (samples, error) {
	var nanoseconds float64
	var passed int
	if _, err := fmt.Sscan(printed, &nanoseconds, &passed); err != nil {
		return to, fmt.Errorf("the loop printed %q: %w", printed, err)
	}
	if passed > 0 {
		return to, fmt.Errorf("%d of %d connects were not denied", passed, connectsPerRound)
	}
	return append(to, time.Duration(nanoseconds)), nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
