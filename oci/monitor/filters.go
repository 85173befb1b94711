package monitor

import (
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// filters are the two of a process: the overlay, and the spec's own with its flags. Either may be nil.
func filters(p *plan.Plan, process plan.Process, cache string) (overlay, spec []unix.SockFilter, flags uint64, err error) {
	if rules := p.OverlayFor(process); !rules.Empty() {
		if overlay, err = rules.Assemble(); err != nil {
			return nil, nil, 0, err
		}
	}
	filter, err := seccompnotif.ProfileCache{Dir: cache}.Compile(p.Seccomp)
	if err != nil || filter == nil {
		return overlay, nil, 0, err
	}
	return overlay, filter.Program, uint64(filter.Flags), nil
}
