package plan

import (
	"strings"
	"testing"
)

// A further process is refused CAP_NET_ADMIN under the same rules as the first one, and groups where there can be none; it is given both otherwise.
func TestCheckExec(t *testing.T) {
	admin, groups := Process{}, Process{Groups: []uint32{7}}
	admin.Capabilities.Bounding = netAdmin
	for _, row := range []struct {
		name    string
		policy  map[string]string
		process Process
		denied  bool // setgroups
		want    string
	}{
		{"CAP_NET_ADMIN without rules", nil, admin, false, ""},
		{"CAP_NET_ADMIN under rules", map[string]string{"network.allow": "10.0.0.1:443"}, admin, false, "CAP_NET_ADMIN"},
		{"nothing under rules", map[string]string{"network.allow": "10.0.0.1:443"}, Process{}, false, ""},
		{"groups", nil, groups, false, ""},
		{"groups where there can be none", nil, groups, true, "process.user.additionalGids"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := New(request(t, "docker.json", row.policy, nil))
			if err != nil {
				t.Fatal(err)
			}
			p.DenySetgroups = row.denied
			err = p.CheckExec(row.process, true)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
