package netfilter

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParseRule(t *testing.T) {
	both, tcp, udp, icmp := ProtocolSet(TCP, UDP), ProtocolSet(TCP), ProtocolSet(UDP), ProtocolSet(ICMP)
	prefix := netip.MustParsePrefix
	none := netip.Prefix{}
	for _, row := range []struct {
		text      string
		want      Rule
		canonical string // if it is not text
	}{
		{"10.0.0.1", Rule{both, prefix("10.0.0.1/32"), nil}, ""},
		{"10.0.0.1:80", Rule{both, prefix("10.0.0.1/32"), []uint16{80}}, ""},
		{"10.0.0.1/32:80", Rule{both, prefix("10.0.0.1/32"), []uint16{80}}, "10.0.0.1:80"},
		{"10.0.0.0/8:443,80,443", Rule{both, prefix("10.0.0.0/8"), []uint16{80, 443}}, "10.0.0.0/8:80,443"},
		{"10.0.0.1:*", Rule{both, prefix("10.0.0.1/32"), nil}, "10.0.0.1"},
		{"0.0.0.0/0", Rule{both, prefix("0.0.0.0/0"), nil}, ""},
		{"tcp://10.0.0.1:1", Rule{tcp, prefix("10.0.0.1/32"), []uint16{1}}, ""},
		{"udp://[2001:db8::1]:53", Rule{udp, prefix("2001:db8::1/128"), []uint16{53}}, ""},
		{"2001:db8::1", Rule{both, prefix("2001:db8::1/128"), nil}, ""},
		{"[2001:DB8::1]", Rule{both, prefix("2001:db8::1/128"), nil}, "2001:db8::1"},
		{"[2001:db8::1]:*", Rule{both, prefix("2001:db8::1/128"), nil}, "2001:db8::1"},
		{"::1:80", Rule{both, prefix("::1:80/128"), nil}, ""}, // an address, not a port
		{"[fd00::/8]:443", Rule{both, prefix("fd00::/8"), []uint16{443}}, ""},
		{"fd00::/8", Rule{both, prefix("fd00::/8"), nil}, ""},
		{"::/0", Rule{both, prefix("::/0"), nil}, ""},
		{"::ffff:10.0.0.1", Rule{both, prefix("10.0.0.1/32"), nil}, "10.0.0.1"},
		{"[::ffff:10.0.0.0/104]:80", Rule{both, prefix("10.0.0.0/8"), []uint16{80}}, "10.0.0.0/8:80"},
		{"icmp://10.0.0.1", Rule{icmp, prefix("10.0.0.1/32"), nil}, ""},
		{"icmp://*", Rule{icmp, none, nil}, ""},
		{"icmp://", Rule{icmp, none, nil}, "icmp://*"},
		{"*", Rule{both, none, nil}, ""},
		{"*:*", Rule{both, none, nil}, "*"},
		{":*", Rule{both, none, nil}, "*"},
		{":65535", Rule{both, none, []uint16{65535}}, "*:65535"},
		{"tcp://*:443", Rule{tcp, none, []uint16{443}}, ""},
		{"tcp://:443", Rule{tcp, none, []uint16{443}}, "tcp://*:443"},
		{"udp://*", Rule{udp, none, nil}, ""},
	} {
		t.Run(row.text, func(t *testing.T) {
			got, err := ParseRule(row.text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("got %#v, want %#v", got, row.want)
			}
			canonical := row.canonical
			if canonical == "" {
				canonical = row.text
			}
			if got.String() != canonical {
				t.Errorf("String() = %q, want %q", got.String(), canonical)
			}
			if again, err := ParseRule(got.String()); err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("%q does not parse back: %#v, %v", got.String(), again, err)
			}
		})
	}
}

func TestParseRuleErrors(t *testing.T) {
	for _, row := range []struct{ text, part, says string }{
		{"", "", "is empty"},
		{"http://10.0.0.1", "http", "valid are tcp, udp and icmp"},
		{"TCP://10.0.0.1", "TCP", "valid are tcp"},
		{"10.0.0.1:0", "0", "1 to 65535"},
		{"10.0.0.1:65536", "65536", "1 to 65535"},
		{"10.0.0.1:+1", "+1", "1 to 65535"},
		{"10.0.0.1:080", "080", "1 to 65535"},
		{"10.0.0.1:80-90", "80-90", "decimal"},
		{"10.0.0.1:", ":", "lacks a port"},
		{"10.0.0.1:80,", ":80,", "lacks a port"},
		{"10.0.0.1:80,*", "80,*", `"*" beside other ports`},
		{"10.0.0.1:*,80", "*,80", `"*" beside other ports`},
		{"icmp://10.0.0.1:8", ":8", "icmp has none"},
		{"icmp://10.0.0.1:*", ":*", "icmp has none"},
		{"10.0.0.256", "10.0.0.256", "not an IPv4 address"},
		{"10.0.0.01", "10.0.0.01", "not an IPv4 address"},
		{"10.0.0.1/33", "10.0.0.1/33", "0 to 32"},
		{"10.0.0.0/", "10.0.0.0/", "0 to 32"},
		{"10.0.0.0/08", "10.0.0.0/08", "0 to 32"},
		{"10.0.0.1/8", "10.0.0.1/8", "the prefix is 10.0.0.0/8"},
		{"fd00::1/8", "fd00::1/8", "the prefix is fd00::/8"},
		{"fe80::1%eth0", "fe80::1%eth0", "zone"},
		{"[fe80::1%1]:80", "fe80::1%1", "zone"},
		{"2001:db8::1::443", "2001:db8::1::443", "in brackets"},
		{"[2001:db8::1", "[2001:db8::1", "closing bracket"},
		{"[10.0.0.1]:80", "[10.0.0.1]:80", "not an IPv6"},
		{"[fd00::]/8:443", "[fd00::]/8:443", "as in [fd00::/8]:443"},
		{"example.com:443", "example.com", "host names come with a later release; give an address or CIDR"},
		{"localhost", "localhost", "host names come with a later release"},
		{"*.example.com", "*.example.com", "only HTTP rules"},
		{"a..b", "a..b", "not an address"},
		{"10.0.0.1 :80", " :80", "space"},
		{"10.0.0.1\n", "\n", "control character"},
		{"ex\u00e4mple.com", "\u00e4mple.com", "beyond ASCII"},
		{strings.Repeat("1", 2000), "", "longer than 1024"},
	} {
		_, err := ParseRule(row.text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q: %v", row.text, err)
			continue
		}
		if row.part != "" && syntax.Part != row.part || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%q: part %q, error %q; want part %q and %q", row.text, syntax.Part, err, row.part, row.says)
		}
		if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q: the error is more than one line", row.text)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for text, want := range map[string]string{
		"80":                  "",
		"80,8000-8010":        "",
		"*":                   "",
		"1-65535":             "*",
		"8000-8010,80":        "80,8000-8010",
		"80,81,82-90,85-100":  "80-100",
		"443,443":             "443",
		"1-10,12":             "",
		"65535,1":             "1,65535",
		"100-200,150,201-300": "100-300",
	} {
		if want == "" {
			want = text
		}
		got, err := ParsePorts(text)
		if err != nil || got.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
		if again, err := ParsePorts(got.String()); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q does not parse back: %v, %v", got, again, err)
		}
	}
	for _, text := range []string{"", ",", "80,", "0", "65536", "90-80", "80-", "-80", "*,80", "80 ", "http", "80--90"} {
		if got, err := ParsePorts(text); err == nil {
			t.Errorf("%q is accepted as %v", text, got)
		}
	}
	ports, _ := ParsePorts("80,8000-8010")
	for port, want := range map[uint16]bool{0: false, 79: false, 80: true, 81: false, 7999: false, 8000: true, 8010: true, 8011: false} {
		if ports.Contains(port) != want {
			t.Errorf("Contains(%d) is %v", port, !want)
		}
	}
	if ports.Len() != 12 || ports.All() || !AnyPort().All() || AnyPort().Len() != 65535 {
		t.Error("Len or All is wrong")
	}
}

func FuzzParseRule(f *testing.F) {
	for _, seed := range []string{"10.0.0.1:80", "tcp://*:443", "[fd00::/8]:1,2", "icmp://*", "::ffff:1.2.3.4", ":80", "a.b:1", "[::]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRule(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is more than one line: %q", err)
			}
			return
		}
		again, err := ParseRule(rule.String())
		if err != nil || !reflect.DeepEqual(again, rule) || again.String() != rule.String() {
			t.Errorf("%q became %q, which became %#v, %v", text, rule, again, err)
		}
	})
}

func FuzzParsePorts(f *testing.F) {
	for _, seed := range []string{"80", "80,8000-8010", "*", "5-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := ParsePorts(text)
		if err != nil {
			return
		}
		again, err := ParsePorts(ports.String())
		if err != nil || !reflect.DeepEqual(again, ports) {
			t.Errorf("%q became %q, which became %v, %v", text, ports, again, err)
		}
	})
}
