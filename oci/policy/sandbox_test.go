package policy

import (
	"reflect"
	"strings"
	"testing"
)

// A pod's paths are its containers', not its sandbox's; what the operator says of paths holds for both.
func TestPathsOfASandbox(t *testing.T) {
	profiles := map[string]string{"pod": "[filesystem]\ndeny = [\"/profile\"]\n[network]\ndeny = [\"tcp://*:1\"]\n", "node": "[filesystem]\ndeny = [\"/node\"]\n"}
	for name, row := range map[string]struct {
		sources
		deny, sandboxes []string
	}{
		"annotations":                  {sources{annotations: annotations{"filesystem.deny": "/a", "network.deny": "tcp://*:1"}}, []string{"/a"}, nil},
		"an annotation's profile":      {sources{annotations: annotations{"profile": "pod"}}, []string{"/profile"}, nil},
		"the operator":                 {sources{config: "[filesystem]\ndeny = [\"/op\"]\n", annotations: annotations{"filesystem.deny": "/a", "network.deny": "tcp://*:1"}}, []string{"/a", "/op"}, []string{"/op"}},
		"the operator's profile":       {sources{config: "profiles.default = \"node\"\n", annotations: annotations{"profile": "pod"}}, []string{"/node", "/profile"}, []string{"/node"}},
		"the caller's profile":         {sources{profile: "node", annotations: annotations{"profile": "pod"}}, []string{"/node", "/profile"}, []string{"/node"}},
		"a granted annotation":         {sources{config: "annotations.grant = [\"filesystem.*\"]\n[filesystem]\ndeny = [\"/op\"]\n", annotations: annotations{"filesystem.deny": "/a", "network.deny": "tcp://*:1"}}, []string{"/a"}, []string{"/op"}},
		"a profile in another's place": {sources{config: "profiles.default = \"node\"\nannotations.grant = [\"profile\"]\n", profiles: profiles, annotations: annotations{"profile": "pod"}}, []string{"/profile"}, []string{"/profile"}},
	} {
		t.Run(name, func(t *testing.T) {
			row.profiles = profiles
			for _, kind := range []struct {
				annotation annotations
				want       []string
			}{
				{nil, row.deny},
				{annotations{"io.kubernetes.cri.container-type": "container"}, row.deny},
				{annotations{"io.kubernetes.cri.container-type": "sandbox"}, row.sandboxes},
				{annotations{"io.kubernetes.cri-o.ContainerType": "sandbox"}, row.sandboxes},
			} {
				row.others = kind.annotation
				p, _, err := row.load(t)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(p.Filesystem.Deny, kind.want) {
					t.Errorf("%v: denied are %q, want %q", kind.annotation, p.Filesystem.Deny, kind.want)
				}
				if !reflect.DeepEqual(p.Network.Deny, []string{"tcp://*:1"}) {
					t.Errorf("%v: the network's rules are %q", kind.annotation, p.Network.Deny)
				}
			}
		})
	}
}

// A typo is told before the sandbox is made, and not only by its first container.
func TestTypoInASandboxsPaths(t *testing.T) {
	s := sources{annotations: annotations{"filesystem.deny": "not/absolute"}, others: annotations{"io.kubernetes.cri.container-type": "sandbox"}}
	if _, _, err := s.load(t); err == nil || !strings.Contains(err.Error(), "io.sandlock.filesystem.deny") {
		t.Errorf("%v", err)
	}
}
