package netfilter

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseRule(t *testing.T) {
	both, tcp, udp, icmp := ProtocolSet(TCP, UDP), ProtocolSet(TCP), ProtocolSet(UDP), ProtocolSet(ICMP)
	prefix := netip.MustParsePrefix
	none := netip.Prefix{}
	at := func(protocols Protocols, prefix netip.Prefix, ports ...uint16) Rule {
		return Rule{Protocols: protocols, Prefix: prefix, Ports: ports}
	}
	named := func(protocols Protocols, name string, ports ...uint16) Rule {
		return Rule{Protocols: protocols, Name: name, Ports: ports}
	}
	for _, row := range []struct {
		text      string
		want      Rule
		canonical string // if it is not text
	}{
		{"10.0.0.1", at(both, prefix("10.0.0.1/32")), ""},
		{"10.0.0.1:80", at(both, prefix("10.0.0.1/32"), 80), ""},
		{"10.0.0.1/32:80", at(both, prefix("10.0.0.1/32"), 80), "10.0.0.1:80"},
		{"10.0.0.0/8:443,80,443", at(both, prefix("10.0.0.0/8"), 80, 443), "10.0.0.0/8:80,443"},
		{"10.0.0.1:*", at(both, prefix("10.0.0.1/32")), "10.0.0.1"},
		{"0.0.0.0/0", at(both, prefix("0.0.0.0/0")), ""},
		{"tcp://10.0.0.1:1", at(tcp, prefix("10.0.0.1/32"), 1), ""},
		{"udp://[2001:db8::1]:53", at(udp, prefix("2001:db8::1/128"), 53), ""},
		{"2001:db8::1", at(both, prefix("2001:db8::1/128")), ""},
		{"[2001:DB8::1]", at(both, prefix("2001:db8::1/128")), "2001:db8::1"},
		{"[2001:db8::1]:*", at(both, prefix("2001:db8::1/128")), "2001:db8::1"},
		{"::1:80", at(both, prefix("::1:80/128")), ""}, // an address, not a port
		{"[fd00::/8]:443", at(both, prefix("fd00::/8"), 443), ""},
		{"fd00::/8", at(both, prefix("fd00::/8")), ""},
		{"::/0", at(both, prefix("::/0")), ""},
		{"::ffff:10.0.0.1", at(both, prefix("10.0.0.1/32")), "10.0.0.1"},
		{"[::ffff:10.0.0.0/104]:80", at(both, prefix("10.0.0.0/8"), 80), "10.0.0.0/8:80"},
		{"icmp://10.0.0.1", at(icmp, prefix("10.0.0.1/32")), ""},
		{"icmp://*", at(icmp, none), ""},
		{"icmp://", at(icmp, none), "icmp://*"},
		{"*", at(both, none), ""},
		{"*:*", at(both, none), "*"},
		{":*", at(both, none), "*"},
		{":65535", at(both, none, 65535), "*:65535"},
		{"tcp://*:443", at(tcp, none, 443), ""},
		{"tcp://:443", at(tcp, none, 443), "tcp://*:443"},
		{"udp://*", at(udp, none), ""},
		{"api.example.com:443", named(both, "api.example.com", 443), ""},
		{"tcp://API.Example.COM:443,80", named(tcp, "api.example.com", 80, 443), "tcp://api.example.com:80,443"},
		{"udp://ns.example.com:*", named(udp, "ns.example.com"), "udp://ns.example.com"},
		{"icmp://gateway", named(icmp, "gateway"), ""},
		{"localhost", named(both, "localhost"), ""},
		{"_srv._tcp.example.com", named(both, "_srv._tcp.example.com"), ""},
		{"1.2.3.4.example", named(both, "1.2.3.4.example"), ""},
		{"10.example.x1:1", named(both, "10.example.x1", 1), ""},
		{"xn--bcher-kva.example", named(both, "xn--bcher-kva.example"), ""},
		{"fe80", named(both, "fe80"), ""},
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
		{"10.0.0", "10.0.0", "not an IPv4 address"},
		{"10.0.0.1.2", "10.0.0.1.2", "not an IPv4 address"},
		{"0x7f.1", "0x7f.1", "not an IPv4 address"},
		{"0x7f000001", "0x7f000001", "not an IPv4 address"},
		{"2130706433:80", "2130706433", "not an IPv4 address"},
		{"example.com.", "example.com.", "written without"},
		{"-a.example", "-a.example", "neither a host name nor an address"},
		{"a-.example", "a-.example", "neither a host name nor an address"},
		{"a/b", "a/b", "neither a host name nor an address"},
		{"user@example.com", "user@example.com", "neither a host name nor an address"},
		{"example.com/path", "example.com/path", "neither a host name nor an address"},
		{"example.com:http", "http", "1 to 65535"},
		{"[example.com]:80", "[example.com]:80", "not an IPv6"},
		{strings.Repeat("a", 64) + ".com", "", "neither a host name"},
		{strings.Repeat("a.", 127) + "com", "", "neither a host name"},
		{"*.example.com", "*.example.com", "only HTTP rules"},
		{"a..b", "a..b", "neither a host name nor an address"},
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

func TestParseDenyRules(t *testing.T) {
	if rules, err := ParseDenyRules([]string{"10.0.0.1", "*:25"}); err != nil || len(rules) != 2 {
		t.Error(rules, err)
	}
	_, err := ParseDenyRules([]string{"10.0.0.1", "tcp://API.example.com:443"})
	want := `endpoint rule "tcp://API.example.com:443": "API.example.com" is a host name, which only rules that allow can have`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := ParseDenyRules([]string{"nonsense/"}); err == nil {
		t.Error("a malformed rule is accepted")
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
	for _, seed := range []string{"10.0.0.1:80", "tcp://*:443", "[fd00::/8]:1,2", "icmp://*", "::ffff:1.2.3.4", ":80", "a.b:1", "[::]", "udp://Api.Example.com:1,2", "a.b.", "0x1"} {
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

// FuzzRuleString goes the other way: a rule that a program makes is written and read back.
func FuzzRuleString(f *testing.F) {
	f.Add(uint8(0), []byte{10, 0, 0, 1}, uint8(8), "", []byte{0, 80})
	f.Add(uint8(1), []byte("sixteen bytes ad"), uint8(128), "", []byte{1, 187, 0, 80})
	f.Add(uint8(2), []byte{}, uint8(0), "api.example.com", []byte{0, 53})
	f.Add(uint8(3), []byte{}, uint8(0), "", []byte{})
	f.Fuzz(func(t *testing.T, kind uint8, address []byte, bits uint8, name string, portBytes []byte) {
		rule := Rule{Protocols: []Protocols{unnamed, ProtocolSet(TCP), ProtocolSet(UDP), ProtocolSet(ICMP)}[kind%4]}
		if addr, ok := netip.AddrFromSlice(address); ok && !addr.Is4In6() {
			rule.Prefix = netip.PrefixFrom(addr, int(bits)%(addr.BitLen()+1)).Masked()
		} else if isHostName(name) {
			rule.Name = strings.ToLower(name)
		}
		if mapped := netip.MustParsePrefix("::ffff:0:0/96"); rule.Prefix.IsValid() && rule.Prefix.Addr().Is6() && rule.Prefix.Overlaps(mapped) {
			return // is read as IPv4, or holds all of it
		}
		for ; rule.Protocols != ProtocolSet(ICMP) && len(portBytes) >= 2 && len(rule.Ports) < 100; portBytes = portBytes[2:] {
			if port := uint16(portBytes[0])<<8 | uint16(portBytes[1]); port > 0 {
				rule.Ports = append(rule.Ports, port)
			}
		}
		slices.Sort(rule.Ports)
		rule.Ports = slices.Compact(rule.Ports)
		again, err := ParseRule(rule.String())
		if err != nil || !reflect.DeepEqual(again, rule) {
			t.Errorf("%#v is written %q, which is read as %#v, %v", rule, rule, again, err)
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
