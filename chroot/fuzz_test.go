package chroot

import (
	"encoding/json"
	"os"
	"path"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Whatever a spec says of mounts, devices and paths, the map has clean absolute places within the root, refuses in one line, and is the same when it has been written
// and read.
func FuzzNewMap(f *testing.F) {
	docker, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(docker, "/etc/shadow", true)
	f.Add([]byte(`{"mounts":[{"destination":"/../x","type":"tmpfs","options":["ro","tmpcopyup"]},{"destination":"/c","type":"cgroup"}]}`), "/a/../b", false)
	f.Add([]byte(`{"linux":{"devices":[{"path":"../dev/x","type":"u","major":1}],"maskedPaths":["a//b"],"rootfsPropagation":"rshared"}}`), "/", false)
	f.Fuzz(func(t *testing.T, document []byte, denied string, user bool) {
		var spec specs.Spec
		if json.Unmarshal(document, &spec) != nil || !utf8.ValidString(denied) {
			return // neither JSON nor TOML has a path that is no text
		}
		m, err := NewMap(MapRequest{Spec: &spec, RootFS: "/b/rootfs", Bundle: "/b", Denied: []string{denied}, UserNamespace: user})
		if err != nil {
			return
		}
		var places []string
		for _, e := range m.Entries {
			places = append(places, e.Destination)
			if e.Kind == Bind && !path.IsAbs(e.Source) {
				t.Errorf("the source %q is relative", e.Source)
			}
		}
		for _, d := range m.Devices {
			places = append(places, d.Path)
		}
		for _, p := range append(append(append(places, m.Masked...), m.ReadOnly...), m.Denied...) {
			if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
				t.Errorf("the place %q", p)
			}
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var again Map
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		rewritten, err := json.Marshal(again)
		if err != nil || !reflect.DeepEqual(text, rewritten) {
			t.Errorf("written, read and written again:\n%s\n%s (%v)", text, rewritten, err)
		}
	})
}
