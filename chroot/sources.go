package chroot

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sandlock/sandlock-runtime/oci/launch"
)

// Sources are the detached mounts of a map, held by the parent. Open, Steps, Pivot and Finish are called in this order.
type Sources struct{ m Map }

// Open clones the root and every bind source of m. The cgroups that m names must exist by now. Errors name the entry and the source.
func Open(m Map) (*Sources, error) { panic("TODO") }

// Close lets go of the mounts. The launched child has its own descriptors, so it may be called once the child has been started.
func (s *Sources) Close() { panic("TODO") }

// Steps adds what a child in a new mount namespace does to have the whole tree attached, and returns the root's descriptor. The child
// must be the root of its user namespace (setresuid) and in its final cgroup by then. The umask is 022 afterwards.
func (s *Sources) Steps(p *launch.Program) (root launch.FD) { panic("TODO") }

// Pivot makes root the child's root and working directory, and drops the old root. createRuntime and createContainer hooks run before it.
func (s *Sources) Pivot(p *launch.Program, root launch.FD) { panic("TODO") }

// Finish covers denied and masked paths and makes read-only what must be; sysctls are written before it. Capabilities and filters must
// still allow mounting.
func (s *Sources) Finish(p *launch.Program, root launch.FD) { panic("TODO") }

// Terminal opens a new pseudoterminal of the container's devpts, owned by the user uid of the container, and returns both ends.
func Terminal(p *launch.Program, root launch.FD, uid uint32, size *specs.Box) (master, slave launch.FD) {
	panic("TODO")
}

// Console mounts the terminal slave over /dev/console.
func Console(p *launch.Program, root, slave launch.FD) { panic("TODO") }

// ReopenNull replaces those standard descriptors of the child that are the host's /dev/null by the container's.
func ReopenNull(p *launch.Program, root launch.FD, descriptors ...int) { panic("TODO") }
