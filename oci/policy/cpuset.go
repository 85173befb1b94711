package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxCPUs bounds CPU numbers: the most a kernel is built for (CONFIG_NR_CPUS).
const maxCPUs = 8192

// CPUSet is a set of CPU numbers, ascending. As text, and in JSON, it is a list
// of numbers and ranges as the cpuset controller takes it (cpuset(7)).
type CPUSet []int

// ParseCPUSet parses a list such as "0-3,5".
func ParseCPUSet(text string) (CPUSet, error) {
	var set CPUSet
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.ParseUint(first, 10, 16)
		high := low
		if err == nil && isRange {
			high, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || high < low {
			return nil, wrong(text, "expected CPU numbers and ranges, as 0-3,5")
		}
		if high >= maxCPUs {
			return nil, wrong(text, fmt.Sprintf("a CPU number above %d", maxCPUs-1))
		}
		if len(set) > maxCPUs {
			return nil, wrong(text, "a CPU is named again and again")
		}
		for cpu := low; cpu <= high; cpu++ {
			set = append(set, int(cpu))
		}
	}
	slices.Sort(set)
	return slices.Compact(set), nil
}

// String writes the set as a list.
func (s CPUSet) String() string {
	var out strings.Builder
	for i := 0; i < len(s); {
		end := i
		for end+1 < len(s) && s[end+1] == s[end]+1 {
			end++
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.Itoa(s[i]))
		if end > i {
			out.WriteString("-" + strconv.Itoa(s[end]))
		}
		i = end + 1
	}
	return out.String()
}

// MarshalText writes the set as String does.
func (s CPUSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses what MarshalText wrote.
func (s *CPUSet) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = nil
		return nil
	}
	set, err := ParseCPUSet(string(text))
	if err != nil {
		return err
	}
	*s = set
	return nil
}

// intersect returns the CPUs in both sets.
func (s CPUSet) intersect(other CPUSet) CPUSet {
	return slices.DeleteFunc(slices.Clone(s), func(cpu int) bool {
		_, common := slices.BinarySearch(other, cpu)
		return !common
	})
}
