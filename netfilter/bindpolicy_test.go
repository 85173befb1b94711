package netfilter

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

func ports(t testing.TB, text string) Ports {
	t.Helper()
	switch text {
	case "-":
		return nil
	case "none":
		return Ports{}
	}
	list, err := ParsePorts(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestBindPolicy(t *testing.T) {
	for _, row := range []struct {
		name, allow, deny string
		yes, no           []uint16
		supervisor        bool
		text              string
	}{
		{"nothing said", "-", "-", []uint16{0, 1, 80, 65535}, nil, false, "unrestricted"},
		{"everything", "*", "-", []uint16{0, 1, 65535}, nil, false, "unrestricted"},
		{"nothing denied", "-", "none", []uint16{0, 1, 65535}, nil, false, "unrestricted"},
		{"one port", "80", "-", []uint16{80}, []uint16{0, 79, 81, 65535}, true, "80"},
		{"edges of a range", "80,8000-8010", "-", []uint16{80, 8000, 8010}, []uint16{0, 7999, 8011}, true, "80,8000-8010"},
		{"nothing allowed", "none", "-", nil, []uint16{0, 1, 80, 65535}, true, "no port"},
		{"all denied", "-", "*", nil, []uint16{0, 1, 65535}, true, "no port"},
		{"one denied", "-", "22", []uint16{0, 1, 21, 23, 65535}, []uint16{22}, false, "1-21,23-65535"},
		{"one denied that the kernel could choose", "-", "40000", []uint16{39999, 40001}, []uint16{0, 40000}, true, "1-39999,40001-65535"},
		{"both: deny wins", "80-90", "85", []uint16{80, 84, 86, 90}, []uint16{0, 85, 91}, true, "80-84,86-90"},
		{"both, the same", "80", "80", nil, []uint16{0, 80}, true, "no port"},
		{"what the kernel chooses from", "32768-60999", "-", []uint16{0, 32768, 60999}, []uint16{32767, 61000}, false, "32768-60999"},
		{"less than that", "32768-60998", "-", []uint16{32768}, []uint16{0, 60999}, true, "32768-60998"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := NewBindPolicy(ports(t, row.allow), ports(t, row.deny))
			for _, port := range row.yes {
				if !p.Allows(port) {
					t.Errorf("%d is denied", port)
				}
			}
			for _, port := range row.no {
				if p.Allows(port) {
					t.Errorf("%d is allowed", port)
				}
			}
			if p.NeedsSupervisor() != row.supervisor || (len(p.Notifications()) > 0) != row.supervisor || p.String() != row.text {
				t.Errorf("supervisor %v, %q", p.NeedsSupervisor(), p)
			}
			if p.Unrestricted() != (row.text == "unrestricted") || p.IsZero() != p.Unrestricted() || (len(p.Denials()) == 0) != p.Unrestricted() {
				t.Error("it is restricted, or it is not")
			}
			list := p.LandlockPorts()
			if (list == nil) != p.Unrestricted() {
				t.Errorf("Landlock: %v", list)
			}
			for port := range 1 << 16 {
				if _, has := slices.BinarySearch(list, uint16(port)); list != nil && has != p.Allows(uint16(port)) {
					t.Fatalf("Landlock and policy differ about %d", port)
				}
			}
			text, err := json.Marshal(p)
			var again BindPolicy
			if err != nil || json.Unmarshal(text, &again) != nil || !reflect.DeepEqual(again, p) {
				t.Errorf("%s became %+v, want %+v (%v)", text, again, p, err)
			}
		})
	}
}

func TestBindPolicyTightens(t *testing.T) {
	of := func(allow, deny string) BindPolicy { return NewBindPolicy(ports(t, allow), ports(t, deny)) }
	p := of("80,8000-8010", "-").Tighten(of("-", "8005")).Tighten(of("-", "-")).Tighten(of("70-8006", "-"))
	if p.String() != "80,8000-8004,8006" {
		t.Error(p)
	}
	if p = of("80", "-").Tighten(of("81", "-")); p.Unrestricted() || p.String() != "no port" {
		t.Error(p)
	}
	if p = of("-", "-").Tighten(of("-", "-")); !p.Unrestricted() {
		t.Error(p)
	}
	// Where the kernel chooses from other ports, other lists let it.
	if p = of("20000-20100", "-"); p.Allows(0) || !p.Choosing(ports(t, "20000-20100")).Allows(0) {
		t.Error("ports to choose from")
	}
	if p = of("-", "22").Choosing(ports(t, "1-65535")); p.Allows(0) || !p.NeedsSupervisor() {
		t.Error("the kernel could choose a denied port")
	}
}

func BenchmarkBindPolicy(b *testing.B) {
	var odd Ports
	for port := uint16(1); port < 65535; port += 2 {
		odd = append(odd, PortRange{port, port})
	}
	for name, p := range map[string]BindPolicy{"one": NewBindPolicy(Ports{{80, 80}}, nil), "many": NewBindPolicy(odd, nil)} {
		b.Run(fmt.Sprint(name), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Allows(uint16(i))
			}
		})
	}
}
