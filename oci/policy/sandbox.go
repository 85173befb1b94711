package policy

import (
	"slices"
	"strings"
)

// sandboxKinds are the annotations by which an engine tells a pod's sandbox from its containers, with their value for a sandbox: those of containerd
// (https://github.com/containerd/containerd/blob/main/internal/cri/annotations/annotations.go) and of CRI-O.
var sandboxKinds = [...]struct{ annotation, value string }{
	{"io.kubernetes.cri.container-type", "sandbox"},
	{"io.kubernetes.cri-o.ContainerType", "sandbox"},
}

// isSandbox says whether a container is a pod's sandbox: the node's own pause program, in an image that has nothing else. A pod's annotations come with
// it all the same, and paths that they name are not there.
func isSandbox(annotations map[string]string) bool {
	for _, kind := range sandboxKinds {
		if annotations[kind.annotation] == kind.value {
			return true
		}
	}
	return false
}

// dropPaths takes away what a layer says of paths. It is for layers whose author may as well have left it out, since anybody who writes annotations
// can make a container look like a sandbox.
func (l *layer) dropPaths() {
	l.settings = slices.DeleteFunc(l.settings, func(s setting) bool { return strings.HasPrefix(s.key.Name, "filesystem.") })
}
