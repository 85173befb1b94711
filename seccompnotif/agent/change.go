package agent

import (
	"errors"
	"fmt"
)

// Op is what a change does.
type Op string

// The changes.
const (
	Restrict Op = "restrict" // for good
	Narrow   Op = "narrow"   // until it is granted back
	Grant    Op = "grant"    // back, as far as the policy that the container started with and all restrictions permit
)

// Change is a change of the policy in force that the agent asks for. It is about one of network, memory, processes and a path.
type Change struct {
	Type string `json:"type"`
	ID   uint64 `json:"id"` // of the agent's choice, for the answer
	Op   Op     `json:"op"`

	Network   *NetworkChange `json:"network,omitempty"`
	Memory    int64          `json:"memory,omitempty"`    // bytes, of all processes together
	Processes int64          `json:"processes,omitempty"` // of all tasks together
	DenyPath  string         `json:"deny_path,omitempty"` // of the container

	// PID and StartTime, as in events, name the process that a change of the network is about, with what it makes from then on.
	PID       int    `json:"pid,omitempty"`
	StartTime uint64 `json:"start_time,omitempty"`
}

// NetworkChange says which destinations a change is about, by endpoint rules. For restrict and narrow: nothing but Allow, if it is
// given (an empty list is nothing), and nothing of Deny. For grant: Allow, or everything if it is not given.
type NetworkChange struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// check tells whether a change makes sense by itself.
func (c Change) check() error {
	subjects := 0
	for _, given := range []bool{c.Network != nil, c.Memory != 0, c.Processes != 0, c.DenyPath != ""} {
		if given {
			subjects++
		}
	}
	switch {
	case c.Op != Restrict && c.Op != Narrow && c.Op != Grant:
		return fmt.Errorf("change: no op is called %q", c.Op)
	case subjects != 1:
		return errors.New("change: not about exactly one of network, memory, processes and deny_path")
	case c.Memory < 0 || c.Processes < 0:
		return errors.New("change: a limit is less than nothing")
	case (c.PID != 0 || c.StartTime != 0) && (c.Network == nil || c.PID <= 0 || c.StartTime == 0):
		return errors.New("change: pid and start_time belong together, and to network")
	case c.DenyPath != "" && c.Op != Restrict:
		return errors.New("change: a path can be denied for good only")
	case c.Network == nil:
		return nil
	case c.Op == Grant && c.Network.Deny != nil:
		return errors.New("change: a grant with deny rules")
	case c.Op != Grant && c.Network.Allow == nil && c.Network.Deny == nil:
		return errors.New("change: network without rules")
	}
	return nil
}
