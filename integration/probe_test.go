package integration

import "testing"

// probe is one property of a container, told by what a script inside it prints.
type probe struct {
	name   string
	change func(t *testing.T, b *bundle) // what the spec or the root has that the default does not; may be nil
	script string
	want   string // the whole of stdout
	flags  []string
	code   int  // the exit code
	own    bool // what Debian's runc cannot do: asked of sandlock-runtime alone
}

// probeAll runs each probe in a container of its own, and checks that nothing is left of it.
func probeAll(t *testing.T, probes []probe) {
	t.Helper()
	for _, p := range probes {
		if p.own && !ours {
			t.Logf("%s: of sandlock-runtime alone, left out", p.name)
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, p.script)
			if p.change != nil {
				p.change(t, b)
			}
			if res := r.runBundle(t, b, p.flags...); res.code != p.code || res.stdout != p.want {
				t.Errorf("want exit code %d and %q, got %v", p.code, p.want, res)
			}
			assertNothingLeft(t, r, b)
		})
	}
}
