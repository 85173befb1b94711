package chroot

import (
	"encoding/json"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMapIsReadBack(t *testing.T) {
	m := Map{
		Root: Root{Source: "/srv", Inherited: Propagation{Type: unix.MS_SLAVE, Recursive: true}},
		Entries: []Entry{{
			Origin: "mounts[0]", Destination: "/data", Kind: Bind, Source: "/srv/data",
			Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Clear: unix.MOUNT_ATTR_NODEV,
			Propagation: []Propagation{{Type: unix.MS_SHARED}},
		}},
		Masked: []string{"/proc/kcore"},
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Map
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, back) {
		t.Errorf("%s\nwas read back as\n%+v", text, back)
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	var a Attributes
	if err := a.UnmarshalText([]byte("ro,fast")); err == nil {
		t.Error("an attribute that does not exist was read")
	}
	var p Propagation
	if err := p.UnmarshalText([]byte("rfast")); err == nil {
		t.Error("a propagation that does not exist was read")
	}
}
