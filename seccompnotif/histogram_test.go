package seccompnotif

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreInOrder(t *testing.T) {
	for _, v := range []uint64{0, 1, parts - 1, parts, parts + 1, 2*parts - 1, 2 * parts, 1000, 6700, 1 << 20, 1<<topExponent - 1} {
		i := bucketOf(v)
		if v > bucketEnd(i) || i > 0 && v <= bucketEnd(i-1) {
			t.Errorf("%d is in bucket %d, which ends at %d", v, i, bucketEnd(i))
		}
	}
	for i := 1; i < bucketCount; i++ {
		if bucketEnd(i) <= bucketEnd(i-1) || bucketOf(bucketEnd(i)) != i || bucketOf(bucketEnd(i-1)+1) != i {
			t.Fatalf("bucket %d ends at %d, the one before at %d", i, bucketEnd(i), bucketEnd(i-1))
		}
	}
	for _, v := range []uint64{1 << topExponent, 1 << 62, ^uint64(0)} {
		if i := bucketOf(v); i != bucketCount-1 {
			t.Errorf("%d is in bucket %d", v, i)
		}
	}
}

func TestQuantilesAreNearTheTruth(t *testing.T) {
	var h histogram
	all := make([]time.Duration, 20000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range all {
		all[i] = time.Duration(r.ExpFloat64() * 7000)
		h.add(all[i])
	}
	slices.Sort(all)
	l := h.read()
	for name, q := range map[string]struct{ got, want time.Duration }{
		"median": {l.P50, all[len(all)/2-1]}, "p90": {l.P90, all[len(all)*9/10-1]}, "p99": {l.P99, all[len(all)*99/100-1]},
	} {
		if q.got < q.want || q.got > q.want+q.want/parts {
			t.Errorf("%s is %v, in truth %v", name, q.got, q.want)
		}
	}
	if l.Count != uint64(len(all)) || l.Max != all[len(all)-1] {
		t.Errorf("%+v, the largest is %v", l, all[len(all)-1])
	}
}

func TestHistogramAtItsEdges(t *testing.T) {
	var h histogram
	if l := h.read(); l != (Latency{}) {
		t.Errorf("empty: %+v", l)
	}
	h.add(-time.Second) // a clock that steps back must not break it
	if l := h.read(); l.Count != 1 || l.Max != 0 || l.P99 != 0 {
		t.Errorf("%+v", l)
	}
	h = histogram{}
	h.add(time.Hour)
	if l := h.read(); l.P50 != time.Hour || l.Max != time.Hour || l.Mean != time.Hour {
		t.Errorf("%+v", l)
	}
}

func BenchmarkHistogram(b *testing.B) {
	var h histogram
	b.ReportAllocs()
	for b.Loop() {
		h.add(6700)
	}
}
