package plan

import (
	"errors"
	"fmt"
)

// errNoGroups is for whoever may only take groups away from a process, see user_namespaces(7).
var errNoGroups = errors.New("process.user.additionalGids: an ordinary user cannot give a container additional groups without a range in /etc/subgid")

// CheckExec refuses a further process that the container cannot have, as creation refuses such a first one. With groups the process's additional groups matter to its user;
// otherwise they are left out where there can be none, as runc does for root in a user namespace, whose engine names those that the image has.
func (p *Plan) CheckExec(process Process, groups bool) error {
	if groups && p.DenySetgroups && len(process.Groups) > 0 {
		return errNoGroups
	}
	if process.Capabilities.Bounding&netAdmin == 0 {
		return nil
	}
	switch {
	case p.Policy.Network.Restricted():
		return fmt.Errorf("%s: the process is to have CAP_NET_ADMIN, with which it could redirect to anywhere what the rules allow", p.key(keyAllow, keyDeny))
	case p.Agent.network():
		return fmt.Errorf("%s: the process is to have CAP_NET_ADMIN, with which it could redirect what the agent has allowed", p.key("policy.socket"))
	}
	return nil
}
