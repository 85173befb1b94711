package oci

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/oci/state"
	"github.com/sandlock/sandlock-runtime/seccompnotif/agent"
)

// agentKey is the key of the policy that names the agent.
const agentKey = "policy.socket"

// connectAgent connects to the policy's agent, nil if it has none. Without its agent no container is made.
func connectAgent(id string, asked policy.Policy) (*agent.Conn, error) {
	if asked.Socket == "" {
		return nil, nil
	}
	conn, err := agent.Dial(agent.Config{Path: asked.Socket, Container: id, Trust: func(c *net.UnixConn) error {
		_, err := state.CheckPeer(c)
		return err
	}})
	if err != nil {
		key := agentKey
		if slices.Contains(asked.Provenance[key], policy.FromAnnotation) {
			key = policy.AnnotationPrefix + key
		}
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return conn, nil
}

// wanted is what an agent has asked for; nil without one.
func wanted(conn *agent.Conn) *plan.AgentWants {
	if conn == nil {
		return nil
	}
	return &plan.AgentWants{Syscalls: conn.Syscalls(), Argv: conn.Argv(), DenyPaths: conn.DenyPaths()}
}

// limitWait is how long a change of the agent's waits for a verb that is changing the container.
const limitWait = 2 * time.Second

// limit puts limits in force that the agent asks for, below all others: update knows of them and keeps them.
func (c *container) limit(limits policy.Limits) error {
	ctx, cancel := context.WithTimeout(context.Background(), limitWait)
	defer cancel()
	unlock, err := c.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }() // nothing was changed that would be lost
	record, err := c.dir.Load()
	if err != nil {
		return err
	}
	group, err := loadLimits(record)
	if err != nil {
		return err
	}
	made, err := loadPlan(c.dir)
	if err != nil {
		return err
	}
	made.Narrowed = limits
	inForce, err := made.InForce()
	if err != nil {
		return err
	}
	if err := group.Update(inForce); err != nil {
		return err
	}
	return keepLimits(c.dir, record, made, group.Config())
}
