package landlock

// Ruleset is a Landlock ruleset as a value: what it handles, hence denies unless a rule allows it, and the rules.
// The zero value handles nothing. It can be written as JSON and read back.
type Ruleset struct {
	ABI     ABI        `json:"abi"`
	Handled Handled    `json:"handled"`
	Paths   []PathRule `json:"paths"`
	// ConnectTCP and BindTCP are the allowed ports, in order; they mean something only where Handled.Net has the right.
	ConnectTCP Ports `json:"connect_tcp,omitempty"`
	BindTCP    Ports `json:"bind_tcp,omitempty"`
	// Omitted are the protections that were asked for and left out, by mode or for lack of kernel.
	Omitted []Omission `json:"omitted,omitempty"`
}

// Handled is what a ruleset denies unless a rule allows it.
type Handled struct {
	FS    Access  `json:"filesystem"`
	Net   Network `json:"network"`
	Scope Scope   `json:"scope"`
}

// PathRule gives rights on an object of the container and all that is beneath it.
type PathRule struct {
	Path   string `json:"path"`
	Access Access `json:"access"`
	// Source is what the rule comes from: "root", "kept", or a key of the policy such as "filesystem.read".
	Source string `json:"source"`
	// Optional rules are passed over when the path does not exist or is not of the rule's kind.
	Optional bool `json:"optional,omitempty"`
	Kind     Kind `json:"kind,omitempty"`
}

// Enforces says whether the ruleset has a protection in force.
func (r Ruleset) Enforces(protection Protection) bool {
	for _, omission := range r.Omitted {
		if omission.Protection == protection {
			return false
		}
	}
	switch protection {
	case FSRefer:
		return r.Handled.FS.Has(refer)
	case FSTruncate:
		return r.Handled.FS.Has(truncate)
	case FSIoctlDev:
		return r.Handled.FS.Has(ioctlDev)
	case NetTCP:
		return r.Handled.Net != 0
	case SignalScope:
		return r.Handled.Scope&ScopeSignal != 0
	case AbstractUnixScope:
		return r.Handled.Scope&ScopeAbstractUnix != 0
	}
	return false
}

// WholeRoot says whether the root itself carries every right that is handled, so that nothing in the container is out of
// reach for Landlock.
func (r Ruleset) WholeRoot() bool {
	for _, rule := range r.Paths {
		if rule.Path == "/" && !rule.Optional && rule.Access.Has(r.Handled.FS) {
			return true
		}
	}
	return false
}
