package userns

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestRangesAreMappedToThemselves(t *testing.T) {
	for _, c := range []struct {
		name     string
		mappings []specs.LinuxIDMapping
		want     string
	}{
		{"nothing", nil, "1000 1000 1"},
		{"the own id", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}, "1000 1000 1"},
		{"a range as well", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}}, "1000 1000 1 100000 100000 65536"},
		{"a range alone", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 10}}, "1000 1000 1 100000 100000 10"},
		{"out of order", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 10, HostID: 5, Size: 2}}, "5 5 2 1000 1000 1 100000 100000 10"},
		{"overlapping", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100, Size: 10}, {ContainerID: 20, HostID: 105, Size: 10}}, "100 100 15 1000 1000 1"},
		{"one inside another", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 900, Size: 200}, {ContainerID: 300, HostID: 950, Size: 1}}, "900 900 200"},
		{"neighbours", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1001, Size: 9}}, "1000 1000 1 1001 1001 9"},
		{"empty", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 7, Size: 0}}, "1000 1000 1"},
		{"the last id", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 4294967290, Size: 5}}, "1000 1000 1 4294967290 4294967290 5"},
	} {
		before := slices.Clone(c.mappings)
		if got := strings.Join(arguments(same(c.mappings, 1000)), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if !slices.Equal(before, c.mappings) {
			t.Errorf("%s: the mappings have been changed", c.name)
		}
	}
}
