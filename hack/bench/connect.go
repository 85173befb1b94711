package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const connectRounds = 9

// connect compares a denied connect in a container with one under the barest supervisor, round by round.
func (b *bench) connect() error {
	title("connect: one denied connect, %d rounds of %d", connectRounds, notifiedCalls)
	program, err := b.notifyProgram()
	if err != nil {
		return err
	}
	var floor, ours calls
	for round := range connectRounds {
		out, err := exec.Command(program, "floor", "connect", fmt.Sprint(notifiedCalls)).Output()
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		if err := floor.read(string(out)); err != nil {
			return err
		}
		printed, err := b.deniedConnects(round)
		if err != nil {
			return err
		}
		if err := ours.read(printed); err != nil {
			return err
		}
	}
	compareCalls(b.ours.name, &ours, "bare C supervisor", &floor)
	return nil
}

// deniedConnects runs the loop in a container under a deny rule and returns what it printed.
func (b *bench) deniedConnects(round int) (string, error) {
	id := fmt.Sprintf("bench-connect-%d-%d", os.Getpid(), round)
	dir, err := b.bundle(id, map[string]string{"io.sandlock.network.deny": "192.0.2.0/24"}, "/bin/notify", "loop", "connect", fmt.Sprint(notifiedCalls))
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
