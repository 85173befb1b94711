package monitor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// moveDevices gives the network devices of linux.netDevices to the network namespace that pid is in, under the names that they are to have there. Should the
// container not come to be, the kernel moves those that are hardware back, as it does when the container has ended.
func moveDevices(pid int, devices map[string]specs.LinuxNetDevice) error {
	if len(devices) == 0 {
		return nil
	}
	to, err := netns.GetFromPath("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return fmt.Errorf("linux.netDevices: network namespace of the container: %w", err)
	}
	defer to.Close()
	inside, err := netlink.NewHandleAt(to, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("linux.netDevices: network namespace of the container: %w", err)
	}
	defer inside.Close()
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		newName := name
		if devices[name].Name != "" {
			newName = devices[name].Name
		}
		if err := moveDevice(name, newName, to, inside); err != nil {
			return fmt.Errorf("linux.netDevices[%q]: %w", name, err)
		}
	}
	return nil
}

// moveDevice moves a device, with the addresses that somebody has given it for good and for everywhere: others depend on the network that it was in. The
// kernel takes all addresses off a device that it moves.
func moveDevice(name, newName string, to netns.NsHandle, inside *netlink.Handle) error {
	device, err := netlink.LinkByName(name)
	if complete(err) != nil {
		return err
	}
	addresses, err := netlink.AddrList(device, netlink.FAMILY_ALL)
	if complete(err) != nil {
		return fmt.Errorf("its addresses: %w", err)
	}
	if err := netlink.LinkSetDown(device); err != nil {
		return fmt.Errorf("set it down: %w", err)
	}
	before, err := inside.LinkList()
	if complete(err) != nil {
		return fmt.Errorf("devices of the container: %w", err)
	}
	if err := moveLink(device.Attrs().Index, newName, to); err != nil {
		return fmt.Errorf("move it as %q: %w", newName, err)
	}
	moved, err := arrived(inside, newName, before)
	if complete(err) != nil {
		return fmt.Errorf("moved as %q: %w", newName, err)
	}
	for _, address := range addresses {
		if address.Flags&unix.IFA_F_PERMANENT == 0 || address.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := inside.AddrAdd(moved, &netlink.Addr{IPNet: address.IPNet}); err != nil {
			return fmt.Errorf("address %s: %w", address.IPNet, err)
		}
	}
	if err := inside.LinkSetUp(moved); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}

// arrived finds the device that has come as name. The kernel has completed a name with %d, and the index may be another than before: it is the one that was
// not there.
func arrived(inside *netlink.Handle, name string, before []netlink.Link) (netlink.Link, error) {
	prefix, suffix, completed := strings.Cut(name, "%d")
	if !completed {
		return inside.LinkByName(name)
	}
	now, err := inside.LinkList()
	if complete(err) != nil {
		return nil, err
	}
	for _, link := range now {
		same := func(old netlink.Link) bool { return old.Attrs().Index == link.Attrs().Index }
		if full := link.Attrs().Name; strings.HasPrefix(full, prefix) && strings.HasSuffix(full, suffix) && !slices.ContainsFunc(before, same) {
			return link, nil
		}
	}
	return nil, unix.ENODEV
}

// moveLink moves and renames in one request: at no time has the device a name that somebody else's has there.
func moveLink(index int, name string, to netns.NsHandle) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request.AddData(message)
	request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	request.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return complete(err)
}

// complete passes over the word that something has changed while the kernel was listing, which happens to others' devices as well.
func complete(err error) error {
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	return err
}
