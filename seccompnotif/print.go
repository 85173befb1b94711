package seccompnotif

import (
	"encoding/json"
	"fmt"
	"strings"
)

// String lists the overlay for people, one rule a line, in the order in which they are tried.
func (o Overlay) String() string {
	var b strings.Builder
	line := func(answer, name string, when []Match, group string) {
		fmt.Fprintf(&b, "%s %s", answer, name)
		for i, m := range when {
			b.WriteString([]string{" when ", " and "}[min(i, 1)])
			b.WriteString(m.String())
		}
		if group != "" {
			fmt.Fprintf(&b, " (%s%s)", groupMark, group)
		}
		b.WriteByte('\n')
	}
	b.WriteString("ENOSYS foreign architectures\n")
	for _, d := range o.Deny {
		line(errnoLabel(d.Errno), d.Syscall, d.When, d.Group)
	}
	for _, n := range o.NotifyWhen {
		line("notify", n.Syscall, n.When, "")
	}
	for _, name := range o.Notify {
		line("notify", name, nil, "")
	}
	return b.String()
}

// MarshalJSON writes the overlay as an object with the members notify, notifyWhen and deny.
func (o Overlay) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Notify     []string       `json:"notify,omitempty"`
		NotifyWhen []Notification `json:"notifyWhen,omitempty"`
		Deny       []Denial       `json:"deny,omitempty"`
	}{o.Notify, o.NotifyWhen, o.Deny})
}

// MarshalJSON writes the denial with its errno by name.
func (d Denial) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Syscall string  `json:"syscall"`
		Errno   string  `json:"errno"`
		When    []Match `json:"when,omitempty"`
		Group   string  `json:"group,omitempty"`
	}{d.Syscall, errnoLabel(d.Errno), d.When, d.Group})
}
