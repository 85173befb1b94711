package netfilter_test

import (
	"fmt"
	"log"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

// What a plan makes of a policy, and how a monitor serves it.
func Example() {
	operator, err := netfilter.ParseRules([]string{"10.0.0.0/8", "tcp://*:443"})
	if err != nil {
		log.Fatal(err)
	}
	container, err := netfilter.ParseRules([]string{"tcp://10.1.0.1:443"})
	if err != nil {
		log.Fatal(err)
	}
	policy := netfilter.NewPolicy(operator, nil).Tighten(netfilter.NewPolicy(container, nil))

	overlay := seccompnotif.Overlay{Deny: policy.Denials()}
	if ports, ok := policy.TCPPortsOnly(); ok {
		fmt.Println("Landlock allows TCP to ports", ports)
	}
	if !policy.NeedsSupervisor() {
		return
	}
	overlay.NotifyWhen = policy.Notifications()
	fmt.Println(policy)
	fmt.Println("notified:", policy.Notified())

	egress, err := netfilter.NewEgress(netfilter.EgressConfig{
		Policy:  policy,
		Denials: netfilter.DenialFunc(func(d netfilter.Denial) { log.Print(d) }),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer egress.Close()
	table := seccompnotif.NewTable().Under(overlay)
	egress.Register(table)
	if _, err := table.Build(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// allow 10.0.0.0/8; tcp://*:443, and of that only tcp://10.1.0.1:443
	// notified: [connect sendto sendmsg sendmmsg]
}
