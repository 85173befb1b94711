package seccompnotif

// calls returns what a gate wants, by system call number; nothing of a nil gate.
func (g *Gate) calls() map[int]EventCall {
	if g == nil {
		return nil
	}
	return g.wanted
}

// guard returns the chain of a call: the built-in handlers, whose refusals are reported, the user's, and the question to the
// subscriber. The question is the end of the chain, because whoever answers later answers for good.
func (g *Gate) guard(call EventCall, builtin, user []Handler) []Handler {
	var chain []Handler
	for _, h := range builtin {
		chain = append(chain, HandlerFunc(func(c *Call) Action {
			a := h.Handle(c)
			if a.kind == actErrno {
				details := registers(call.Name, c)
				details.Denied = true
				g.Report(c, details)
			}
			return a
		}))
	}
	chain = append(chain, user...)
	return append(chain, HandlerFunc(func(c *Call) Action {
		details := registers(call.Name, c)
		if !call.Held {
			g.Report(c, details)
			return Continue() // safe: nothing was decided
		}
		return g.Later(func() Action {
			if errno := g.Ask(c, details); errno != 0 {
				return Errno(errno)
			}
			return Continue() // safe: the event told of the caller and of registers, none of which can change
		})
	}))
}
