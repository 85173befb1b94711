package monitor

import (
	"time"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// Finding is what became of a call, for the record.
type Finding string

// The findings that are recorded.
const (
	Denied  Finding = "denied"
	Audited Finding = "audit" // allowed, and to be on record
	// Remapped is a bind to another port than the one asked for, see [netfilter.PortSpace].
	Remapped Finding = "remapped"
)

// AuditRecord is one call on record.
type AuditRecord struct {
	Time     time.Time `json:"time"` // UTC
	Verdict  Finding   `json:"verdict"`
	PID      int       `json:"pid"` // of the thread, in the monitor's PID namespace
	Comm     string    `json:"comm,omitempty"`
	Syscall  string    `json:"syscall"`
	Protocol string    `json:"protocol,omitempty"`
	Target   string    `json:"target,omitempty"`
	// Rule is the rule that decided, empty if it was that no rule allows the call, or something that is no rule; Source is where
	// the rule, or the list without one, was given: "FILE:LINE", "annotation", or "agent".
	Rule   string `json:"rule"`
	Source string `json:"source,omitempty"`
	Reason string `json:"reason"` // in words
	// RealPort, if not 0, is the port outside of the one inside that Target has.
	RealPort uint16 `json:"real_port,omitempty"`
}

// AuditLog puts on record what becomes of calls. Its methods never wait for the disk and may be called by several goroutines.
type AuditLog interface {
	netfilter.DenialLog
	// Record takes a record that is no denial by an egress rule. Its Time is set if it is zero.
	Record(AuditRecord)
	// Dropped is how many records there was no room for so far.
	Dropped() uint64
}

// Stats count what the supervisor of a container has done.
type Stats struct {
	Notifications  uint64         `json:"notifications"`
	DroppedRecords uint64         `json:"dropped_records"` // denials and audits that there was no room to record
	Syscalls       []SyscallStats `json:"syscalls"`
}

// SyscallStats count the notifications of one system call.
type SyscallStats struct {
	Syscall string `json:"syscall"` // "other" for those that have no handler, or are of a foreign architecture
	Count   uint64 `json:"count"`
	// How they ended.
	Continued uint64 `json:"continued"` // let through
	Failed    uint64 `json:"failed"`    // answered with an errno: denied, or made on behalf and failed
	Returned  uint64 `json:"returned"`  // made on behalf
	Injected  uint64 `json:"injected"`  // answered with a descriptor
	Killed    uint64 `json:"killed"`
	Stale     uint64 `json:"stale"` // nobody waited for the answer any more
	// Deferred is how many of them a worker has answered.
	Deferred uint64    `json:"deferred"`
	Latency  Latencies `json:"latency_ns"`
}

// Latencies are nanoseconds from a notification's receipt to its answer.
type Latencies struct {
	Mean int64 `json:"mean"`
	P50  int64 `json:"p50"`
	P90  int64 `json:"p90"`
	P99  int64 `json:"p99"`
	Max  int64 `json:"max"`
}

// Stats returns the counts of now; nil without a supervisor.
func (m *Monitor) Stats() *Stats {
	if m.supervisor == nil { // it is made at launch, or never
		return nil
	}
	s := &Stats{Syscalls: []SyscallStats{}}
	if m.request.Denials != nil {
		s.DroppedRecords = m.request.Denials.Dropped()
	}
	for _, of := range m.supervisor.Stats() {
		s.Notifications += of.Latency.Count
		s.Syscalls = append(s.Syscalls, newSyscallStats(of))
	}
	return s
}

func newSyscallStats(of seccompnotif.Stats) SyscallStats {
	name := of.Syscall
	if name == "" {
		name = "other"
	}
	l := of.Latency
	return SyscallStats{
		Syscall: name, Count: l.Count, Continued: of.Continued, Failed: of.Failed, Returned: of.Returned,
		Injected: of.Injected, Killed: of.Killed, Stale: of.Stale, Deferred: of.Deferred,
		Latency: Latencies{l.Mean.Nanoseconds(), l.P50.Nanoseconds(), l.P90.Nanoseconds(), l.P99.Nanoseconds(), l.Max.Nanoseconds()},
	}
}
