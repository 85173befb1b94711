package seccompnotif

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram's buckets are log-linear: each power of two is divided into as many equal parts, so that a quantile read from
// them is too large by a sixteenth at most. Everything from 2^topExponent nanoseconds (a minute and more) on is in the last bucket.
const (
	partBits    = 4
	parts       = 1 << partBits
	topExponent = 36
	bucketCount = (topExponent - partBits + 1) * parts
)

// histogram counts durations without a lock and without allocating. Its size is fixed.
type histogram struct {
	buckets [bucketCount]atomic.Uint64
	sum     atomic.Uint64 // nanoseconds
	max     atomic.Uint64
}

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d, 0))
	h.buckets[bucketOf(v)].Add(1)
	h.sum.Add(v)
	for {
		largest := h.max.Load()
		if v <= largest || h.max.CompareAndSwap(largest, v) {
			return
		}
	}
}

// bucketOf returns the bucket of a number of nanoseconds. The first parts buckets hold one number each.
func bucketOf(v uint64) int {
	if v < parts {
		return int(v)
	}
	exponent := bits.Len64(v) - 1
	if exponent >= topExponent {
		return bucketCount - 1
	}
	return (exponent-partBits)*parts + parts + int(v>>(exponent-partBits))&(parts-1)
}

// bucketEnd returns the largest number of a bucket.
func bucketEnd(i int) uint64 {
	if i < parts {
		return uint64(i)
	}
	exponent, part := (i-parts)/parts+partBits, uint64(i%parts)
	return 1<<exponent + (part+1)<<(exponent-partBits) - 1
}

// Latency tells how a set of durations is distributed. A quantile is never too small, and too large by a sixteenth at most.
type Latency struct {
	Count              uint64
	Mean               time.Duration
	P50, P90, P99, Max time.Duration
}

// read returns what has been counted so far. What is added meanwhile may be left out.
func (h *histogram) read() Latency {
	var counts [bucketCount]uint64
	var l Latency
	for i := range counts {
		counts[i] = h.buckets[i].Load()
		l.Count += counts[i]
	}
	if l.Count == 0 {
		return l
	}
	l.Mean = time.Duration(h.sum.Load() / l.Count)
	l.Max = time.Duration(h.max.Load())
	for _, q := range []struct {
		percent uint64
		to      *time.Duration
	}{{50, &l.P50}, {90, &l.P90}, {99, &l.P99}} {
		*q.to = min(quantile(&counts, l.Count, q.percent), l.Max)
	}
	return l
}

// quantile returns the end of the bucket that holds the duration which so many percent do not exceed.
func quantile(counts *[bucketCount]uint64, total, percent uint64) time.Duration {
	rank := total - total*(100-percent)/100 // that is, rounded up
	for i, n := range counts {
		if n >= rank {
			if i == bucketCount-1 {
				break
			}
			return time.Duration(bucketEnd(i))
		}
		rank -= n
	}
	return time.Duration(1<<63 - 1)
}
