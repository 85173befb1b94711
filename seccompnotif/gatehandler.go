package seccompnotif

// calls returns what a gate wants, by system call number; nothing of a nil gate.
func (g *Gate) calls() map[int]EventCall {
	if g == nil {
		return nil
	}
	return g.wanted
}

// guard returns the chain of a call: the built-in handlers, whose refusals are reported, the user's, and the question to the
// subscriber, which runs the last ones by itself, because whoever answers later answers for good.
func (g *Gate) guard(call EventCall, builtin, user, last []Handler) []Handler {
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
			return runChain(last, c) // with none it is safe: nothing was decided
		}
		if g.config.Argv && isExec(&c.n) {
			return JudgeExec(func(argv Argv) Action {
				details.Argv = &argv
				if errno := g.Ask(c, details); errno != 0 {
					return Errno(errno)
				}
				return runChain(last, c) // with none it is safe: nobody who could change the arguments runs before the kernel has read them
			})
		}
		return g.Later(func() Action {
			if errno := g.Ask(c, details); errno != 0 {
				return Errno(errno)
			}
			return runChain(last, c) // with none it is safe: the event told of the caller and of registers, none of which can change
		})
	}))
}

// runChain runs handlers until one does not answer Continue.
func runChain(chain []Handler, c *Call) Action {
	for _, h := range chain {
		if a := h.Handle(c); a.kind != actContinue {
			return a
		}
	}
	return Continue() // safe as far as the handlers are
}
