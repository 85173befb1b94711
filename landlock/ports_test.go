package landlock

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestPorts(t *testing.T) {
	var all Ports
	for port := range 1 << 16 {
		all = append(all, uint16(port))
	}
	for want, list := range map[string]Ports{
		"": {}, "0": {0}, "80,443": {80, 443}, "80-82,90": {80, 81, 82, 90}, "0-65535": all, "65534-65535": {65534, 65535}, "1,3,5": {1, 3, 5},
	} {
		if list.String() != want {
			t.Errorf("%q, want %q", list, want)
		}
		text, err := json.Marshal(list)
		var again Ports
		if err != nil || json.Unmarshal(text, &again) != nil || !reflect.DeepEqual(again, list) {
			t.Errorf("%s became %v", text, again)
		}
	}
	for _, text := range []string{"x", "5-1", "65536", "1-70000", "80,80", "80-90,85", "-1", "1-"} {
		var p Ports
		if err := p.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted as %v", text, p)
		}
	}
}

func FuzzPorts(f *testing.F) {
	f.Add("80,8000-8010")
	f.Fuzz(func(t *testing.T, text string) {
		var p, again Ports
		if p.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(p.String())); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%q became %v, then %v", text, p, again)
		}
	})
}
