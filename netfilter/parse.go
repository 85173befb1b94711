package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	ruleKind     = "endpoint rule"
	validTargets = "valid are an IPv4 or IPv6 address, a CIDR prefix, or * for any"
)

// SyntaxError says which part of a rule or port list is wrong, and what is valid in its place.
type SyntaxError struct {
	Kind   string // "endpoint rule" or "port list"
	Text   string // the whole rule or list
	Part   string // the offending part of Text; equal to Text if the whole is
	Reason string // what is wrong with it and what is valid
}

// Error returns one line.
func (e *SyntaxError) Error() string {
	if e.Part == e.Text {
		return fmt.Sprintf("%s %q %s", e.Kind, e.Text, e.Reason)
	}
	return fmt.Sprintf("%s %q: %q %s", e.Kind, e.Text, e.Part, e.Reason)
}

const (
	maxRuleLength = 1024 // bytes; more than any rule with a name and a hundred ports needs
	ruleForm      = "[tcp://|udp://|icmp://]TARGET[:PORT[,PORT...]]"
)

// ParseRules parses each of a list of endpoint rules and stops at the first that is malformed. The list it returns is never nil.
func ParseRules(texts []string) ([]Rule, error) { return parseEach(texts, ParseRule) }

// ParseDenyRules is [ParseRules] with [ParseDenyRule].
func ParseDenyRules(texts []string) ([]Rule, error) { return parseEach(texts, ParseDenyRule) }

// ParseDenyRule is [ParseRule] for a rule that denies. It cannot have a name: what is not among the addresses that the name had
// once would stay allowed.
func ParseDenyRule(text string) (Rule, error) {
	rule, err := ParseRule(text)
	if err == nil && rule.Name != "" {
		return Rule{}, &SyntaxError{Kind: ruleKind, Text: text, Part: nameIn(text), Reason: "is a host name, which only rules that allow can have, since a name may come to mean other addresses; " + validTargets}
	}
	return rule, err
}

func parseEach(texts []string, parse func(string) (Rule, error)) ([]Rule, error) {
	rules := make([]Rule, 0, len(texts))
	for _, text := range texts {
		rule, err := parse(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// ParseRule parses one endpoint rule, [scheme://]target[:port[,port...]].
//
// The scheme is tcp, udp or icmp; without one the rule is for TCP and UDP. The target is a host name, an IPv4 or IPv6 address, a
// CIDR prefix, or "*" or nothing for any address; an IPv6 address or prefix followed by ports stands in brackets. Ports are 1 to
// 65535, or "*" alone for any, which is also what no port means. Ports cannot be given for icmp. An IPv4-mapped IPv6 address or
// prefix is read as the IPv4 one, and a name in lower case. An error is a [*SyntaxError].
func ParseRule(text string) (Rule, error) {
	fail := func(part, format string, args ...any) (Rule, error) {
		return Rule{}, &SyntaxError{Kind: ruleKind, Text: text, Part: part, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case text == "":
		return fail(text, "is empty; the form is %s", ruleForm)
	case len(text) > maxRuleLength:
		return Rule{}, &SyntaxError{Kind: ruleKind, Text: text[:40] + "...", Part: text[:40] + "...", Reason: fmt.Sprintf("is longer than %d bytes", maxRuleLength)}
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return fail(text[i:], "begins with a space, a control character or one beyond ASCII; none belongs in a rule")
	}

	rule := Rule{Protocols: unnamed}
	rest := text
	if scheme, after, found := strings.Cut(text, "://"); found {
		switch scheme {
		case "tcp":
			rule.Protocols = ProtocolSet(TCP)
		case "udp":
			rule.Protocols = ProtocolSet(UDP)
		case "icmp":
			rule.Protocols = ProtocolSet(ICMP)
		default:
			return fail(scheme, "is not a scheme; valid are tcp, udp and icmp, or none for TCP and UDP")
		}
		rest = after
	}

	target, ports, hasPorts, reason := splitTarget(rest)
	if reason != "" {
		return fail(rest, "%s", reason)
	}
	if hasPorts {
		if rule.Protocols == ProtocolSet(ICMP) {
			return fail(":"+ports, "is a port, and icmp has none; leave it out")
		}
		list, part, reason := parseEndpointPorts(ports)
		if reason != "" {
			return fail(part, "%s", reason)
		}
		rule.Ports = list
	}
	if target != "" && target != "*" {
		if rule.Name, rule.Prefix, reason = parseTarget(target); reason != "" {
			return fail(target, "%s", reason)
		}
	}
	return rule, nil
}

// nameIn returns how a rule that is valid and has a name spells it.
func nameIn(text string) string {
	if _, after, found := strings.Cut(text, "://"); found {
		text = after
	}
	name, _, _ := strings.Cut(text, ":")
	return name
}

// parseTarget parses a host name, or an address or prefix.
func parseTarget(text string) (name string, prefix netip.Prefix, reason string) {
	if isHostName(text) {
		return strings.ToLower(text), prefix, ""
	}
	prefix, reason = parsePrefix(text)
	return "", prefix, reason
}

// splitTarget separates the target from the ports, and takes an IPv6 target out of its brackets. A reason other than "" says
// why it cannot.
func splitTarget(text string) (target, ports string, hasPorts bool, reason string) {
	if inner, found := strings.CutPrefix(text, "["); found {
		end := strings.IndexByte(inner, ']')
		if end < 0 {
			return "", "", false, "lacks the closing bracket"
		}
		target, rest := inner[:end], inner[end+1:]
		if !strings.Contains(target, ":") {
			return "", "", false, "has brackets around what is not an IPv6 address or prefix"
		}
		if rest == "" {
			return target, "", false, ""
		}
		if ports, found = strings.CutPrefix(rest, ":"); !found {
			return "", "", false, "has something other than a colon and ports after the bracket; a prefix length stands inside, as in [fd00::/8]:443"
		}
		return target, ports, true, ""
	}
	switch strings.Count(text, ":") {
	case 0:
		return text, "", false, ""
	case 1:
		target, ports, _ = strings.Cut(text, ":")
		return target, ports, true, ""
	default:
		return text, "", false, "" // an IPv6 address without a port, or nothing that is valid
	}
}

// parseEndpointPorts parses what follows the colon of an endpoint rule. nil means any port.
func parseEndpointPorts(text string) (ports []uint16, part, reason string) {
	if text == "*" {
		return nil, "", ""
	}
	for field := range strings.SplitSeq(text, ",") {
		if field == "*" {
			return nil, text, `has "*" beside other ports; give "*" alone or the ports alone`
		}
		port, reason := parsePort(field)
		if reason != "" {
			if field == "" {
				return nil, ":" + text, "lacks a port; ports are 1 to 65535, separated by commas"
			}
			return nil, field, reason
		}
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return slices.Compact(ports), "", ""
}

// parsePort parses a decimal port without sign or leading zero.
func parsePort(text string) (port uint16, reason string) {
	const valid = "is not a port; ports are decimal numbers, 1 to 65535"
	if text == "" || strings.Trim(text, "0123456789") != "" || text[0] == '0' {
		return 0, valid
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, valid
	}
	return uint16(n), ""
}

// parsePrefix parses an address or a CIDR prefix.
func parsePrefix(text string) (prefix netip.Prefix, reason string) {
	address, length, isPrefix := strings.Cut(text, "/")
	if strings.ContainsRune(address, '%') {
		return prefix, "has a zone; which interface it means is up to the container, so rules are for addresses without"
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return prefix, notAnAddress(address)
	}
	bits := addr.BitLen()
	if isPrefix {
		n, err := strconv.ParseUint(length, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != length || int(n) > bits {
			return prefix, fmt.Sprintf("has no valid prefix length after the slash; here it is 0 to %d", bits)
		}
		bits = int(n)
	}
	const mapped = 128 - 32 // bits of ::ffff:0:0/96, see RFC 4291, 2.5.5.2
	if addr.Is4In6() && bits >= mapped {
		addr, bits = addr.Unmap(), bits-mapped
	}
	prefix = netip.PrefixFrom(addr, bits)
	if masked := prefix.Masked(); masked != prefix {
		return prefix, fmt.Sprintf("has bits set beyond its prefix length; the prefix is %s", masked)
	}
	return prefix, ""
}

// notAnAddress explains what text, which is neither an address nor a host name, seems to be.
func notAnAddress(text string) string {
	switch {
	case strings.Contains(text, ":"):
		return "is not an IPv6 address; with a port it is written in brackets, as in [2001:db8::1]:443"
	case strings.HasPrefix(text, "*."):
		return "is a wildcard name, which only HTTP rules can have; valid are a host name without *, an address, a CIDR prefix, or * for any"
	case strings.HasSuffix(text, ".") && isHostName(text[:len(text)-1]):
		return "ends in a dot; a host name is written without"
	case isNumber(text[strings.LastIndexByte(text, '.')+1:]):
		return "is not an IPv4 address; those are four decimal numbers, as in 192.0.2.1"
	default:
		return "is neither a host name nor an address; valid are a host name, an IPv4 or IPv6 address, a CIDR prefix, or * for any"
	}
}
