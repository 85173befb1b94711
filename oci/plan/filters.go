package plan

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// planOverlay decides the second filter. It is empty, and none is installed, where the policy asks for nothing that needs one.
func (p *Plan) planOverlay(r Request) error {
	deny, err := seccompnotif.ParseSyscallList(r.Policy.Syscalls.Deny)
	if err != nil {
		return fmt.Errorf("%s: %w", p.key("syscalls.deny"), err)
	}
	allow, err := seccompnotif.ParseSyscallList(r.Policy.Syscalls.Allow)
	if err != nil {
		return fmt.Errorf("%s: %w", p.key("syscalls.allow"), err)
	}
	p.Overlay.NotifyWhen = append(p.Egress().Notifications(), p.Bind.Notifications()...)
	if p.Overlay.Deny = p.Egress().Denials(); len(p.Overlay.Deny) == 0 { // otherwise they are among its own
		p.Overlay.Deny = p.Bind.Denials()
	}
	p.planPorts()
	p.events()
	var base []seccompnotif.Denial
	if len(p.Overlay.NotifyWhen)+len(p.Overlay.Notify) > 0 {
		base = seccompnotif.DefaultDenials()
		if p.Namespaces.Has(specs.PIDNamespace) {
			// Nobody outside can be traced from a PID namespace.
			base = seccompnotif.Without(base, "ptrace")
		}
	}
	denials, err := seccompnotif.Denials(base, deny, allow)
	if err != nil {
		return fmt.Errorf("syscalls: %w", err)
	}
	p.Overlay.Deny = append(p.Overlay.Deny, denials...)
	p.Overlay = p.OverlayFor(p.Process)
	if p.Supervised() && p.SpecNotifies() {
		return fmt.Errorf("%s: needs the supervisor, and linux.seccomp has %s: a process can have one listener only",
			p.key("policy.socket", keyAllow, keyDeny), specs.ActNotify)
	}
	if p.Supervised() && !r.Host.Seccomp.WaitKillable {
		// A signal would end the workload's wait for a call that has been made on its behalf, and have it made twice.
		return fmt.Errorf("%s: needs the supervisor, and with it SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19), which this kernel lacks",
			p.key("policy.socket", keyAllow, keyDeny))
	}
	return nil
}

// SpecNotifies says whether the spec's own filter has calls wait for the agent at linux.seccomp.listenerPath.
func (p *Plan) SpecNotifies() bool {
	return p.Seccomp != nil && slices.ContainsFunc(p.Seccomp.Syscalls, func(s specs.LinuxSyscall) bool { return s.Action == specs.ActNotify })
}

// readSearch lets a task open files by their handles, which are easily made up.
const readSearch = uint64(1) << unix.CAP_DAC_READ_SEARCH

// OverlayFor is the overlay of a process with its capabilities. A file handle leads past what has been mounted over a denied path, and out of a volume that a
// list names to the rest of the file system it is part of, which Landlock takes for the volume.
func (p *Plan) OverlayFor(process Process) seccompnotif.Overlay {
	overlay := p.Overlay
	byHandle := seccompnotif.Denial{Syscall: "open_by_handle_at", Errno: unix.EPERM, Group: "handle"}
	// Since Linux 6.11 whoever may mount may also open by handle.
	files := p.Policy.Filesystem
	if !files.Restricted && len(files.Deny) == 0 || process.Capabilities.Bounding&(readSearch|sysAdmin) == 0 ||
		slices.ContainsFunc(overlay.Deny, func(d seccompnotif.Denial) bool { return d.Syscall == byHandle.Syscall && len(d.When) == 0 }) {
		return overlay
	}
	overlay.Deny = append(slices.Clip(overlay.Deny), byHandle)
	return overlay
}

// HasOverlay says whether there is a second filter at all.
func (p *Plan) HasOverlay() bool {
	return !p.Overlay.Empty()
}
