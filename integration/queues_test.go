package integration

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Message queues are files of a mount that is in no container's tree. Landlock must not take them away.
func TestMessageQueues(t *testing.T) {
	without := func(_ *testing.T, b *bundle) {
		b.spec.Mounts = slices.DeleteFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Type == "mqueue" })
	}
	all := func(changes ...func(*testing.T, *bundle)) func(*testing.T, *bundle) {
		return func(t *testing.T, b *bundle) {
			for _, change := range changes {
				change(t, b)
			}
		}
	}
	lists := func(_ *testing.T, b *bundle) { b.annotate("io.sandlock.filesystem.read", "/bin") }
	const script, want = "guest queue", "made\n"
	probeAll(t, []probe{
		{name: "mounted where they usually are", script: script, want: want},
		{name: "mounted elsewhere", change: all(without, func(_ *testing.T, b *bundle) { b.mount("/queues", "mqueue", "mqueue") }), script: script, want: want},
		{name: "not mounted", change: without, script: script, want: want},
		{name: "in a user namespace", change: userNamespace, script: script, want: want},
		{name: "not mounted, in a user namespace", change: all(without, userNamespace), script: script, want: want},
		{name: "under lists", own: true, change: lists, script: script, want: want},
		{name: "under lists, not mounted", own: true, change: all(lists, without), script: script, want: want},
	})
}
