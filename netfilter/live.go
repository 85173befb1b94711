package netfilter

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// maxChanges bounds how many changes a policy can have had, since every verdict looks at them.
	maxChanges = 64
	// maxScopes bounds the processes that have rules of their own.
	maxScopes = 256
)

// ProcessKey names a process so that no other process is meant, ever: its pid, in the supervisor's pid namespace, with its start
// time. The zero value is the whole guest.
type ProcessKey struct {
	PID       int
	StartTime uint64
}

// Change is a change of the rules of a guest that is running. Its kind is the method of [Egress] that takes it. Host names in it are
// those that the guest's policy has pinned: none is looked up.
type Change struct {
	Allow []Rule // nil says nothing of what is allowed; an empty list allows nothing
	Deny  []Rule
}

// live is the policy in force: what the guest started with, as changes have left it. Verdicts read it without a lock.
type live struct {
	mu    sync.Mutex // of those who change it
	state atomic.Pointer[liveState]
}

// liveState never changes once it can be seen.
type liveState struct {
	whole  scope
	scopes map[ProcessKey]scope // beside the whole guest's
}

// scope is the rules of the whole guest, or of one process.
type scope struct {
	// policy is what it started with and every restriction since.
	policy   Policy
	restrict int
	// steps are what was narrowed and granted back since, in order.
	steps []step
}

type step struct {
	grant  bool
	policy Policy
}

func (l *live) begin(p Policy) { l.state.Store(&liveState{whole: scope{policy: p}}) }

// narrowed is why a destination is denied that the rules would allow.
const narrowed = "narrowed for now"

// judge returns the verdict about a destination of the caller's, and a reason where the verdict has none. It does not allocate unless
// some process has rules of its own.
func (l *live) judge(c *seccompnotif.Call, protocol Protocol, to netip.AddrPort) (Verdict, string) {
	state := l.state.Load()
	verdict, because := state.whole.judge(protocol, to)
	if !verdict.Allowed || len(state.scopes) == 0 {
		return verdict, because
	}
	kin, err := lineage(c)
	if err != nil {
		return Verdict{}, "whose call it is cannot be told"
	}
	for _, key := range kin {
		if own, ok := state.scopes[key]; ok {
			if verdict, because = own.judge(protocol, to); !verdict.Allowed {
				return verdict, because
			}
		}
	}
	return verdict, because
}

// lineage returns the caller's process and those that it descends from.
func lineage(c *seccompnotif.Call) ([]ProcessKey, error) {
	p, err := c.Process()
	if err != nil {
		return nil, err
	}
	return []ProcessKey{{p.PID(), p.StartTime()}}, nil
}

func (s *scope) judge(protocol Protocol, to netip.AddrPort) (Verdict, string) {
	verdict := s.policy.Judge(protocol, to.Addr(), to.Port())
	if !verdict.Allowed {
		return verdict, ""
	}
	allowed := true
	for i := range s.steps {
		if step := &s.steps[i]; step.grant != allowed {
			// A grant lets through what it names, and whatever was let through passes it; a narrowing the other way round.
			allowed = step.policy.Allows(protocol, to.Addr(), to.Port())
		}
	}
	if !allowed {
		return Verdict{}, narrowed
	}
	return verdict, ""
}

// Restrict tightens the rules for good. With a key that is not zero it does so for one process and all that descend from it.
func (e *Egress) Restrict(of ProcessKey, change Change) error {
	return e.live.change(of, func(s *scope) error {
		if s.restrict++; s.restrict > maxChanges {
			return fmt.Errorf("more than %d restrictions", maxChanges)
		}
		more, err := e.policyOf(change, s.policy.Unrestricted())
		if err == nil {
			s.policy = s.policy.Tighten(more)
		}
		return err
	})
}

// Narrow tightens the rules until that is granted back.
func (e *Egress) Narrow(of ProcessKey, change Change) error {
	return e.live.change(of, func(s *scope) error {
		p, err := e.policyOf(change, true)
		if err != nil {
			return err
		}
		return s.add(step{policy: p})
	})
}

// Grant takes back what was narrowed, as far as the rules name it, and all of it without rules. It never goes beyond what the guest
// started with, less every restriction. The change has no deny rules.
func (e *Egress) Grant(of ProcessKey, change Change) error {
	return e.live.change(of, func(s *scope) error {
		if change.Allow == nil {
			s.steps = nil
			return nil
		}
		p, err := e.policyOf(change, true)
		if err != nil {
			return err
		}
		return s.add(step{grant: true, policy: p})
	})
}

func (s *scope) add(next step) error {
	if len(s.steps) == maxChanges {
		return fmt.Errorf("more than %d changes since the last grant of everything", maxChanges)
	}
	s.steps = append(slices.Clone(s.steps), next)
	return nil
}

// everything is the rules that allow all there is.
func everything() []Rule {
	return []Rule{{Protocols: unnamed}, {Protocols: ProtocolSet(ICMP)}}
}

// policyOf returns a change as a policy of its own. A policy that says nothing of what is allowed denies ping, as whoever writes one
// expects. A change that only denies is not to do so: alone tells that nothing else says what is allowed.
func (e *Egress) policyOf(c Change, alone bool) (Policy, error) {
	for _, rule := range slices.Concat(c.Allow, c.Deny) {
		if _, pinned := e.policy.names[rule.Name]; rule.Name != "" && !pinned {
			return Policy{}, fmt.Errorf("endpoint rule %q: the container's own rules do not have that name", rule.String())
		}
	}
	if c.Allow == nil && alone {
		c.Allow = everything()
	}
	return NewPolicy(c.Allow, c.Deny).Pin(e.policy.names), nil
}

// change puts a changed scope in force. Verdicts that are under way see either all of it or nothing.
func (l *live) change(of ProcessKey, how func(*scope) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.state.Load()
	next := &liveState{old.whole, old.scopes}
	if of == (ProcessKey{}) {
		if err := how(&next.whole); err != nil {
			return err
		}
		l.state.Store(next)
		return nil
	}
	own, known := old.scopes[of]
	if !known && len(old.scopes) >= maxScopes {
		return fmt.Errorf("more than %d processes have rules of their own", maxScopes)
	}
	if err := how(&own); err != nil {
		return err
	}
	next.scopes = maps.Clone(old.scopes)
	if next.scopes == nil {
		next.scopes = map[ProcessKey]scope{}
	}
	next.scopes[of] = own
	l.state.Store(next)
	return nil
}
