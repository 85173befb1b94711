// Package agent lets a process of its own judge what a guest does: it is a [seccompnotif.Subscriber] over a Unix stream socket.
//
// The agent listens, the supervisor connects ([Dial]). Either side sends JSON objects, one a line. docs/agent.md describes the
// messages for those who write agents; the types in this package are the messages.
//
// # Trust
//
// The agent is the operator's, but what it says is parsed as if it were not: lines, questions and changes are bounded, and what
// is not understood in full ends the conversation. When that has ended, for whatever reason, there is no second one: every call that
// waits and every later one is denied. An agent can only tighten; nothing it says lifts what the policy refuses.
package agent
