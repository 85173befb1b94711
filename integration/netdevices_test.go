package integration

import (
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/integration/testbundle"
	"github.com/sandlock/sandlock-runtime/integration/testnet"
)

// ipAddr prints the state, the name and the addresses of a device, one a line.
const ipAddr = `ip addr show dev %s | awk '/mtu/ {sub(":$", "", $2); sub("@.*", "", $2); print $2, ($0 ~ /[<,]UP[,>]/ ? "up" : "down")} /inet/ {print $2}'`

// ipInside runs iproute2 in the test's network namespace.
func ipInside(t *testing.T, n *testnet.Namespace, args ...string) {
	t.Helper()
	err := n.Do(func() error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Errorf("ip %q: %v: %s", args, err, out)
		}
		return err
	})
	if err != nil {
		t.FailNow()
	}
}

// Config-linux.md, Network Devices. The runtime itself is in a network namespace of the test's.
func TestNetDevices(t *testing.T) {
	for name, row := range map[string]struct {
		device specs.LinuxNetDevice
		own    func(*testing.T, *bundle)
		inside string
		want   string
	}{
		"same name":        {inside: "moved0", want: "moved0 up\n192.0.2.7/24\n2001:db8::7/64\n"},
		"another name":     {device: specs.LinuxNetDevice{Name: "eth0"}, inside: "eth0", want: "eth0 up\n192.0.2.7/24\n2001:db8::7/64\n"},
		"a user namespace": {own: userNamespace, inside: "moved0", want: "moved0 up\n192.0.2.7/24\n2001:db8::7/64\n"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := testnet.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			ipInside(t, n, "link", "add", "moved0", "type", "veth", "peer", "name", "stays0")
			ipInside(t, n, "address", "add", "192.0.2.7/24", "dev", "moved0")
			ipInside(t, n, "address", "add", "2001:db8::7/64", "dev", "moved0", "nodad")
			ipInside(t, n, "link", "set", "moved0", "up")
			r := newRuntime(t)
			b := script(t, strings.ReplaceAll(ipAddr, "%s", row.inside)+" | grep -v fe80; ip link | grep -c stays0; true")
			if row.own != nil {
				row.own(t, b)
			}
			b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"moved0": row.device}
			b.write(t)
			var res result
			if err := n.Do(func() error {
				res = r.run(t, "run", "--bundle", b.dir, b.id)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			want := row.want + "0\n"
			if !ours {
				// It lists a device's addresses when it has set it down already, which costs those of IPv6.
				want = strings.ReplaceAll(want, "2001:db8::7/64\n", "")
			}
			if res.code != 0 || res.stdout != want {
				t.Errorf("want %q, got %v", want, res)
			}
			ipInside(t, n, "link", "show", "dev", "stays0")
			assertNothingLeft(t, r, b)
		})
	}
}

func TestRefusedNetDevices(t *testing.T) {
	for name, row := range map[string]struct {
		change func(b *bundle)
		words  []string
	}{
		"not there":            {func(*bundle) {}, []string{"not-there0"}},
		"no network namespace": {func(b *bundle) { testbundle.RemoveNamespace(b.spec, specs.NetworkNamespace) }, []string{"namespace"}},
		"not the name of one":  {func(b *bundle) { b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a/b": {}} }, []string{"a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := script(t, "echo ran")
			b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"not-there0": {}}
			row.change(b)
			res := r.runBundle(t, b)
			if res.code == 0 || res.stdout != "" {
				t.Error(res)
			}
			for _, word := range row.words {
				if !strings.Contains(res.stderr, word) {
					t.Errorf("%q is missing: %v", word, res)
				}
			}
			assertNothingLeft(t, r, b)
		})
	}
}
