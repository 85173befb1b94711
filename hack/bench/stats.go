package main

import (
	"fmt"
	"slices"
	"time"
)

// samples are the durations of one thing, in the order they were measured.
type samples []time.Duration

func (s samples) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// pairedRatio is the median of the ratios of each round, which a slow spell of the machine moves less than the ratio of
// the medians.
func pairedRatio(a, b samples) float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = float64(a[i]) / float64(b[i])
	}
	slices.Sort(ratios)
	if len(ratios) == 0 {
		return 0
	}
	return ratios[len(ratios)/2]
}

// compare prints the median and the fastest of each runtime, and the ratio of the first to each.
func compare(runtimes []*candidate, measured map[*candidate]samples) {
	first := measured[runtimes[0]]
	fmt.Printf("%-20s %12s %12s %28s\n", "", "median", "fastest", runtimes[0].name+" to it")
	for _, c := range runtimes {
		s := measured[c]
		fmt.Printf("%-20s %9.2f ms %9.2f ms", c.name, milliseconds(s.median()), milliseconds(slices.Min(s)))
		if c != runtimes[0] {
			fmt.Printf("       %.2f (paired %.2f)", float64(first.median())/float64(s.median()), pairedRatio(first, s))
		}
		fmt.Println()
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
