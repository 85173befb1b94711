package seccompnotif

import (
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
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

// denialJSON is a denial with its errno by name.
type denialJSON struct {
	Syscall string  `json:"syscall"`
	Errno   string  `json:"errno"`
	When    []Match `json:"when,omitempty"`
	Group   string  `json:"group,omitempty"`
}

// MarshalJSON writes the denial with its errno by name.
func (d Denial) MarshalJSON() ([]byte, error) {
	return json.Marshal(denialJSON{d.Syscall, errnoLabel(d.Errno), d.When, d.Group})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Denial) UnmarshalJSON(b []byte) error {
	var j denialJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	for e := unix.Errno(1); e <= maxErrno; e++ {
		if errnoLabel(e) == j.Errno {
			*d = Denial{Syscall: j.Syscall, Errno: e, When: j.When, Group: j.Group}
			return nil
		}
	}
	return fmt.Errorf("denial of %s: unknown errno %q", j.Syscall, j.Errno)
}
