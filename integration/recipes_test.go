package integration

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// recipe is what a profile of docs/network.md promises. Each promise is a protocol and a destination, or "listen" and where, or "socket" and a kind.
type recipe struct {
	title   string
	allowed []string
	denied  []string
	trapped bool // something is supervised
}

const (
	apiV4, apiV6   = "192.0.2.10", "2001:db8::10"
	metadata       = "169.254.169.254"
	metadataV6     = "fd00:ec2::254"
	gateway        = "10.20.0.1"
	resolver       = "10.20.0.2"
	neighbour      = "10.20.0.9"
	elsewhere      = "198.51.100.1"
	game           = "203.0.113.7"
	dockerResolver = "127.0.0.11"
)

var recipes = []recipe{
	{"An agent that may reach one API, by its name",
		[]string{"tcp api.example.com:443", "tcp " + apiV4 + ":443", "tcp [" + apiV6 + "]:443"},
		[]string{"tcp " + apiV4 + ":80", "tcp " + elsewhere + ":443", "udp " + apiV4 + ":443", "udp " + resolver + ":53", "icmp " + apiV4}, true},
	{"No metadata service",
		[]string{"tcp " + elsewhere + ":80", "udp " + resolver + ":53", "tcp 169.254.169.253:80"},
		[]string{"tcp " + metadata + ":80", "tcp [::ffff:" + metadata + "]:80", "udp " + metadata + ":53", "tcp [" + metadataV6 + "]:80"}, true},
	{"DNS to one server only",
		[]string{"udp " + resolver + ":53", "tcp " + resolver + ":53"},
		[]string{"udp " + neighbour + ":53", "tcp " + resolver + ":80", "udp " + elsewhere + ":53"}, true},
	{"A server on two ports",
		[]string{"listen 0.0.0.0:80", "listen [::]:443"},
		[]string{"listen 0.0.0.0:8080", "listen unbound", "tcp " + neighbour + ":7000", "udp " + resolver + ":53"}, true},
	{"Loopback only",
		[]string{"tcp 127.0.0.1:7000", "udp 127.1.2.3:7000", "tcp [::1]:7000"},
		[]string{"tcp " + neighbour + ":7000", "udp " + elsewhere + ":7000", "tcp [" + apiV6 + "]:7000"}, true},
	{"One subnet, but not its gateway",
		[]string{"tcp " + neighbour + ":80", "udp " + resolver + ":53"},
		[]string{"tcp " + gateway + ":80", "udp " + gateway + ":53", "tcp " + elsewhere + ":80"}, true},
	{"A game server, or QUIC",
		[]string{"udp " + game + ":27015", "udp " + game + ":27016", "udp 203.0.113.8:443"},
		[]string{"udp " + game + ":27017", "udp 203.0.113.8:27015", "tcp " + game + ":27015", "tcp 203.0.113.8:443"}, true},
	{"Ping the gateway, and nothing else",
		[]string{"icmp " + gateway},
		[]string{"icmp " + neighbour, "tcp " + gateway + ":80", "udp " + gateway + ":53"}, true},
	{"Nothing at all",
		[]string{"socket unix"},
		[]string{"tcp 127.0.0.1:7000", "tcp [" + apiV6 + "]:443", "udp " + resolver + ":53", "icmp " + gateway}, false},
	{"Names of a Docker network",
		[]string{"udp " + dockerResolver + ":53", "tcp " + dockerResolver + ":53", "tcp " + neighbour + ":5432"},
		[]string{"udp 127.0.0.12:53", "tcp " + dockerResolver + ":80", "udp " + neighbour + ":5432", "tcp " + elsewhere + ":5432"}, true},
	{"HTTPS everywhere, at the kernel's speed",
		[]string{"tcp " + apiV4 + ":443", "tcp [" + apiV6 + "]:443", "tcp " + elsewhere + ":80"},
		[]string{"tcp " + elsewhere + ":8080", "udp " + elsewhere + ":443", "icmp " + gateway}, false},
	{"No well-known ports",
		[]string{"listen 0.0.0.0:1024", "listen [::1]:65535", "listen 127.0.0.1:0", "listen unbound", "tcp " + elsewhere + ":22"},
		[]string{"listen 0.0.0.0:80", "listen [::]:1023", "listen 127.0.0.1:1"}, false},
}

// TestPolicyRecipes runs each recipe of docs/network.md in a container: what it allows is reached, and what it denies is not, although it is there.
func TestPolicyRecipes(t *testing.T) {
	profiles, titles := readRecipes(t)
	var tested []string
	for _, r := range recipes {
		tested = append(tested, r.title)
	}
	if !slices.Equal(titles, tested) {
		t.Fatalf("the page has the recipes\n%q, the test\n%q", titles, tested)
	}
	for _, r := range recipes {
		t.Run(r.title, func(t *testing.T) { r.run(t, profiles[r.title]) })
	}
}

// readRecipes returns the profiles of the page by title, and the titles in order.
func readRecipes(t *testing.T) (profiles map[string]string, titles []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/network.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## Recipes\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	profiles = map[string]string{}
	for _, part := range strings.Split(rest, "\n### ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		_, code, _ := strings.Cut(body, "```toml\n")
		code, _, found := strings.Cut(code, "```")
		if !found {
			t.Errorf("recipe %q has no profile", title)
		}
		profiles[title] = code
		titles = append(titles, title)
	}
	return profiles, titles
}

func (r recipe) run(t *testing.T, profile string) {
	p := newPlace(t, "127.0.0.1 localhost\n", map[string][]string{"api.example.com": {apiV4, apiV6}})
	servers := r.serve(t, p)
	rt := p.runtime(t)
	rt.args = profileArgs(t, profile)
	var text, want []string
	for _, promise := range r.allowed {
		command, answer := promised(t, promise)
		text, want = append(text, command), append(want, answer)
	}
	for _, promise := range r.denied {
		command, _ := promised(t, promise)
		text, want = append(text, command), append(want, "EACCES")
	}
	b := p.join(t, strings.Join(text, "; ")+"; echo up; sleep 1000")
	c := rt.start(t, b)
	for i, w := range want {
		if got := c.line(t); got != w {
			t.Errorf("%s: %s, want %s", text[i], got, w)
		}
	}
	if got := c.line(t); got != "up" {
		t.Fatal(got)
	}
	for _, promise := range r.denied {
		if s := servers[promise]; s != nil && len(s.Peers()) > 0 {
			t.Errorf("%s was reached: %v", promise, s.Peers())
		}
	}
	for _, promise := range r.allowed {
		if s := servers[promise]; s != nil && len(s.Peers()) == 0 {
			t.Errorf("%s was not reached", promise)
		}
	}
	inspection := rt.must(t, "inspect", c.id)
	if trapped := strings.Contains(inspection, "\n  supervised "); trapped != r.trapped {
		t.Errorf("trapped: %v, want %v: %s", trapped, r.trapped, inspection)
	}
	if strings.HasPrefix(r.title, "A server") {
		p.answers(t, c)
	}
}

// promised is the guest's command for a promise, and what it prints when all is well.
func promised(t *testing.T, promise string) (command, answer string) {
	t.Helper()
	what, where, _ := strings.Cut(promise, " ")
	switch what {
	case "tcp":
		return "guest network connect tcp " + where, testnet.Banner
	case "udp":
		return "guest network sendto udp " + where, testnet.Banner
	case "icmp":
		return "guest network sendto icmp " + where + ":0", "pong"
	case "listen":
		return "guest listen " + where, "listening"
	case "socket":
		return "guest socket " + where, "opened"
	}
	t.Fatalf("no promise %q", promise)
	return "", ""
}

// serve starts a server wherever a promise leads, so that what is not reached was denied. The servers are returned by promise.
func (r recipe) serve(t *testing.T, p *place) map[string]*testnet.Server {
	t.Helper()
	servers, byAddress, added := map[string]*testnet.Server{}, map[string]*testnet.Server{}, map[string]bool{}
	for _, promise := range slices.Concat(r.allowed, r.denied) {
		protocol, where, _ := strings.Cut(promise, " ")
		if protocol != "tcp" && protocol != "udp" && protocol != "icmp" {
			continue
		}
		host, port, err := net.SplitHostPort(where)
		if err != nil {
			host = where // of ping
		}
		host = strings.TrimPrefix(strings.Replace(host, "api.example.com", apiV4, 1), "::ffff:")
		if ip := net.ParseIP(host); !added[host] && !ip.IsLoopback() {
			added[host] = true
			bits := 32
			if ip.To4() == nil {
				bits = 128
			}
			if err := p.network.AddAddress(fmt.Sprintf("%s/%d", host, bits)); err != nil {
				t.Fatal(err)
			}
		}
		if protocol == "icmp" {
			continue // the kernel answers
		}
		at := net.JoinHostPort(host, port)
		if byAddress[protocol+at] == nil {
			byAddress[protocol+at] = listenIn(t, p.network, protocol, at)
		}
		servers[promise] = byAddress[protocol+at]
	}
	return servers
}

// answers has a server in the container, at an allowed port, answer a client outside.
func (p *place) answers(t *testing.T, c *container) {
	t.Helper()
	if res := c.shell(t, "httpd -p 80 -h /var/www && echo served"); res.stdout != "served\n" {
		t.Fatal(res)
	}
	var page string
	err := p.network.Do(func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:80")
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /index.html HTTP/1.0\r\n\r\n")
		buf := make([]byte, 1024)
		for {
			n, err := conn.Read(buf)
			page += string(buf[:n])
			if err != nil {
				return nil
			}
		}
	})
	if err != nil || !strings.Contains(page, "served by busybox") {
		t.Errorf("%q, %v", page, err)
	}
}
