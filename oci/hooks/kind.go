package hooks

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Kind is a moment in a container's life at which hooks run.
// https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks
type Kind string

// The kinds, in the order of a container's life.
const (
	Prestart        Kind = "prestart"
	CreateRuntime   Kind = "createRuntime"
	CreateContainer Kind = "createContainer"
	StartContainer  Kind = "startContainer"
	Poststart       Kind = "poststart"
	Poststop        Kind = "poststop"
)

// Kinds lists all kinds, in the order of a container's life.
func Kinds() []Kind {
	return []Kind{Prestart, CreateRuntime, CreateContainer, StartContainer, Poststart, Poststop}
}

// InContainer tells whether hooks of this kind run in the container's namespaces, and so need a Spawner. Those of
// createContainer run before its root is changed, and their path is one of the host; those of startContainer after.
func (k Kind) InContainer() bool { return k == CreateContainer || k == StartContainer }

// Of picks the hooks of this kind; h may be nil.
func (k Kind) Of(h *specs.Hooks) []specs.Hook {
	if h == nil {
		return nil
	}
	switch k {
	case Prestart:
		//lint:ignore SA1019 deprecated, and what Docker uses
		return h.Prestart //nolint:staticcheck // golangci-lint has its own way to say so
	case CreateRuntime:
		return h.CreateRuntime
	case CreateContainer:
		return h.CreateContainer
	case StartContainer:
		return h.StartContainer
	case Poststart:
		return h.Poststart
	case Poststop:
		return h.Poststop
	}
	return nil
}
