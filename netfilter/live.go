package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// maxChanges bounds how many changes a policy can have had, since every verdict looks at them.
	maxChanges = 64
	// maxScopes bounds how many processes have had their rules changed, of those that one process descends from.
	maxScopes = 16
)

// Change is a change of the rules of a guest that is running. Its kind is the method of [Egress] that takes it. Host names in it are
// those that the guest's policy has pinned: none is looked up.
type Change struct {
	Allow []Rule // nil says nothing of what is allowed; an empty list allows nothing
	Deny  []Rule
}

// live is the policy in force: what the guest started with, as changes have left it. Verdicts read it without a lock.
type live struct {
	mu    sync.Mutex // of those who change it
	whole atomic.Pointer[scope]
	own   atomic.Bool // some process has rules of its own
}

// scope is the rules of the whole guest, or of one process. It never changes once it can be seen.
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

// scopes are the mark of a process ([seccompnotif.Process.SetMark]) that has rules of its own, or descends from one that has: all of
// them count.
type scopes []*ownScope

type ownScope struct {
	of    *seccompnotif.Process
	scope atomic.Pointer[scope]
}

func (l *live) begin(p Policy) { l.whole.Store(&scope{policy: p}) }

// narrowed is why a destination is denied that the rules would allow.
const narrowed = "narrowed for now"

// judge returns the verdict about a destination of the caller's, and a reason where the verdict has none. It does not allocate.
func (l *live) judge(c *seccompnotif.Call, protocol Protocol, to netip.AddrPort) (Verdict, string) {
	verdict, because := l.whole.Load().judge(protocol, to)
	if !verdict.Allowed || !l.own.Load() {
		return verdict, because
	}
	p, err := c.Process()
	if err != nil {
		return Verdict{}, "whose call it is cannot be told"
	}
	own, _ := p.Mark().(scopes)
	for _, s := range own {
		if verdict, because = s.scope.Load().judge(protocol, to); !verdict.Allowed {
			break
		}
	}
	return verdict, because
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

// Restrict tightens the rules for good: those of the whole guest or, if of is not nil, of one process. Where the creation of processes
// is tracked, they are those of all processes too that it makes from now on, and of theirs.
func (e *Egress) Restrict(of *seccompnotif.Process, change Change) error {
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
func (e *Egress) Narrow(of *seccompnotif.Process, change Change) error {
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
func (e *Egress) Grant(of *seccompnotif.Process, change Change) error {
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
func (l *live) change(of *seccompnotif.Process, how func(*scope) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	cell := &l.whole
	if of != nil {
		var err error
		if cell, err = l.cell(of); err != nil {
			return err
		}
	}
	next := *cell.Load()
	if err := how(&next); err != nil {
		return err
	}
	cell.Store(&next)
	return nil
}

// cell returns where a process's own rules are.
func (l *live) cell(of *seccompnotif.Process) (*atomic.Pointer[scope], error) {
	has, _ := of.Mark().(scopes)
	for _, s := range has {
		if s.of == of {
			return &s.scope, nil
		}
	}
	if len(has) == maxScopes {
		return nil, fmt.Errorf("more than %d processes that it descends from have rules of their own", maxScopes)
	}
	own := &ownScope{of: of}
	own.scope.Store(&scope{})
	of.SetMark(append(has[:len(has):len(has)], own))
	l.own.Store(true)
	return &own.scope, nil
}
