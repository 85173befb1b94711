package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// enough is how many failures are told; after as many the work ends, since it does not get better.
const enough = 20

// tally counts what has been done, how long steps took, and what went wrong. Its methods may be called concurrently.
type tally struct {
	mu       sync.Mutex
	rounds   map[string]int
	steps    map[string][]time.Duration
	failures []string
	hangs    []string
}

func (t *tally) round(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rounds == nil {
		t.rounds = map[string]int{}
	}
	t.rounds[kind]++
}

func (t *tally) step(name string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.steps == nil {
		t.steps = map[string][]time.Duration{}
	}
	t.steps[name] = append(t.steps[name], took)
}

func (t *tally) fail(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, what)
	fmt.Println("FAILED", what)
}

func (t *tally) hang(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hangs = append(t.hangs, what)
	fmt.Println("HANGS", what)
}

func (t *tally) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures)+len(t.hangs) > 0
}

func (t *tally) hopeless() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures)+len(t.hangs) >= enough
}

// median is the median time of a step, 0 before the first.
func (t *tally) median(name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return middle(t.steps[name])
}

func middle(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(of))[len(of)/2]
}

func (t *tally) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	rounds, steps := 0, 0
	for _, n := range t.rounds {
		rounds += n
	}
	for _, all := range t.steps {
		steps += len(all)
	}
	return fmt.Sprintf("%d rounds, %d steps, %d failed, %d hung", rounds, steps, len(t.failures), len(t.hangs))
}

func (t *tally) print() {
	fmt.Println(t.line())
	for _, kind := range slices.Sorted(maps.Keys(t.rounds)) {
		fmt.Printf("  %-22s %6d rounds\n", kind, t.rounds[kind])
	}
	for _, name := range slices.Sorted(maps.Keys(t.steps)) {
		all := t.steps[name]
		fmt.Printf("  %-22s %6d times, median %s, longest %s\n", name, len(all), middle(all).Round(time.Millisecond), slices.Max(all).Round(time.Millisecond))
	}
}
