package oci

import (
	"github.com/opencontainers/cgroups"

	"github.com/sandlock/sandlock-runtime/oci/monitor"
)

// Stats are the counters of a container's cgroup as events prints them. Field names are those of "runc events", which differ from those of
// the cgroup library here and there.
type Stats struct {
	CPU     CPUStats                `json:"cpu"`
	CPUSet  cgroups.CPUSetStats     `json:"cpuset"`
	Memory  MemoryStats             `json:"memory"`
	Pids    PidsStats               `json:"pids"`
	Blkio   BlkioStats              `json:"blkio"`
	Hugetlb map[string]HugetlbStats `json:"hugetlb"`
	// These two are always empty: neither is counted here, and runc's readers expect them.
	IntelRdt          struct{} `json:"intel_rdt"`
	NetworkInterfaces []string `json:"network_interfaces"`
	// Supervisor is what runc does not have: the counts of the container's supervisor, nil if it has none or cannot be asked.
	Supervisor *monitor.Stats `json:"supervisor,omitempty"`
}

// CPUStats count processor time.
type CPUStats struct {
	Usage      CPUUsage          `json:"usage,omitzero"`
	Throttling Throttling        `json:"throttling,omitzero"`
	PSI        *cgroups.PSIStats `json:"psi,omitempty"`
}

// CPUUsage is in nanoseconds.
type CPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	Percpu       []uint64 `json:"percpu,omitempty"`
	PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
	PercpuUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// Throttling says how often, and for how many nanoseconds, the CPU limit held the container up.
type Throttling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// MemoryStats count memory in bytes.
type MemoryStats struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryEntry       `json:"usage,omitzero"`
	Swap      MemoryEntry       `json:"swap,omitzero"`
	Kernel    MemoryEntry       `json:"kernel,omitzero"`
	KernelTCP MemoryEntry       `json:"kernelTCP,omitzero"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *cgroups.PSIStats `json:"psi,omitempty"`
}

// MemoryEntry is one kind of memory, in bytes, and how often its limit was hit.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// PidsStats count tasks.
type PidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// BlkioStats count input and output by device.
type BlkioStats struct {
	IoServiceBytesRecursive []BlkioEntry      `json:"ioServiceBytesRecursive,omitempty"`
	IoServicedRecursive     []BlkioEntry      `json:"ioServicedRecursive,omitempty"`
	IoQueuedRecursive       []BlkioEntry      `json:"ioQueueRecursive,omitempty"`
	IoServiceTimeRecursive  []BlkioEntry      `json:"ioServiceTimeRecursive,omitempty"`
	IoWaitTimeRecursive     []BlkioEntry      `json:"ioWaitTimeRecursive,omitempty"`
	IoMergedRecursive       []BlkioEntry      `json:"ioMergedRecursive,omitempty"`
	IoTimeRecursive         []BlkioEntry      `json:"ioTimeRecursive,omitempty"`
	SectorsRecursive        []BlkioEntry      `json:"sectorsRecursive,omitempty"`
	PSI                     *cgroups.PSIStats `json:"psi,omitempty"`
}

// BlkioEntry is one counter of one device.
type BlkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// HugetlbStats count huge pages of one size, in bytes.
type HugetlbStats struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

func newStats(c *cgroups.Stats) Stats {
	cpu, memory, io := &c.CpuStats, &c.MemoryStats, &c.BlkioStats
	s := Stats{
		CPU: CPUStats{
			Usage: CPUUsage{
				Total: cpu.CpuUsage.TotalUsage, Kernel: cpu.CpuUsage.UsageInKernelmode, User: cpu.CpuUsage.UsageInUsermode,
				Percpu: cpu.CpuUsage.PercpuUsage, PercpuKernel: cpu.CpuUsage.PercpuUsageInKernelmode, PercpuUser: cpu.CpuUsage.PercpuUsageInUsermode,
			},
			Throttling: Throttling{
				Periods: cpu.ThrottlingData.Periods, ThrottledPeriods: cpu.ThrottlingData.ThrottledPeriods, ThrottledTime: cpu.ThrottlingData.ThrottledTime,
			},
			PSI: cpu.PSI,
		},
		CPUSet: c.CPUSetStats,
		Memory: MemoryStats{
			Cache: memory.Cache, Usage: newMemoryEntry(memory.Usage), Swap: newMemoryEntry(memory.SwapUsage),
			Kernel: newMemoryEntry(memory.KernelUsage), KernelTCP: newMemoryEntry(memory.KernelTCPUsage), Raw: memory.Stats, PSI: memory.PSI,
		},
		Pids: PidsStats(c.PidsStats),
		Blkio: BlkioStats{
			IoServiceBytesRecursive: newBlkioEntries(io.IoServiceBytesRecursive), IoServicedRecursive: newBlkioEntries(io.IoServicedRecursive),
			IoQueuedRecursive: newBlkioEntries(io.IoQueuedRecursive), IoServiceTimeRecursive: newBlkioEntries(io.IoServiceTimeRecursive),
			IoWaitTimeRecursive: newBlkioEntries(io.IoWaitTimeRecursive), IoMergedRecursive: newBlkioEntries(io.IoMergedRecursive),
			IoTimeRecursive: newBlkioEntries(io.IoTimeRecursive), SectorsRecursive: newBlkioEntries(io.SectorsRecursive), PSI: io.PSI,
		},
		Hugetlb: make(map[string]HugetlbStats, len(c.HugetlbStats)),
	}
	for size, pages := range c.HugetlbStats {
		s.Hugetlb[size] = HugetlbStats{Usage: pages.Usage, Max: pages.MaxUsage, Failcnt: pages.Failcnt}
	}
	return s
}

func newMemoryEntry(m cgroups.MemoryData) MemoryEntry {
	return MemoryEntry{Limit: m.Limit, Usage: m.Usage, Max: m.MaxUsage, Failcnt: m.Failcnt}
}

func newBlkioEntries(list []cgroups.BlkioStatEntry) []BlkioEntry {
	var out []BlkioEntry
	for _, entry := range list {
		out = append(out, BlkioEntry(entry))
	}
	return out
}
