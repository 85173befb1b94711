package seccompnotif

// Mark returns what [Process.SetMark] has given the process, nil if nobody has. Under [TableBuilder.TrackCreation] a process begins
// with the mark that its maker had at that moment, whoever becomes its parent.
func (p *Process) Mark() any {
	if mark := p.mark.Load(); mark != nil {
		return *mark
	}
	return nil
}

// SetMark gives the process a mark, and with it all that the process makes from now on. It is for one kind of handler to use.
func (p *Process) SetMark(mark any) { p.mark.Store(&mark) }

// inherit gives a process that has not run yet its maker's mark.
func (p *Process) inherit(from *Process) { p.mark.Store(from.mark.Load()) }
