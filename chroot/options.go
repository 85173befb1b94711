package chroot

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// options are a mount's options by what they apply to.
type options struct {
	bind, recursive bool
	set, clear      Attributes
	rSet, rClear    Attributes
	propagation     []Propagation
	super           []string // flags of the filesystem that mount(2) has bits for
	data            []string // what only the filesystem knows
	copyUp          bool
	remount         bool
	idMapped        bool // "idmap" or "ridmap"
	idMapBeneath    bool // the latter came last
}

// attributeOptions are the options that mean a flag of one mount, with the attribute they set or clear. With an "r" before
// them they apply to the mounts beneath as well. See mount_setattr(2) and the "Linux mount options" of the runtime spec.
var attributeOptions = [...]struct {
	name  string
	flag  Attributes
	clear bool
}{
	{"ro", unix.MOUNT_ATTR_RDONLY, false}, {"rw", unix.MOUNT_ATTR_RDONLY, true},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, false}, {"suid", unix.MOUNT_ATTR_NOSUID, true},
	{"nodev", unix.MOUNT_ATTR_NODEV, false}, {"dev", unix.MOUNT_ATTR_NODEV, true},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, false}, {"exec", unix.MOUNT_ATTR_NOEXEC, true},
	{"noatime", unix.MOUNT_ATTR_NOATIME, false}, {"atime", unix.MOUNT_ATTR_NOATIME, true},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME, false}, {"nostrictatime", unix.MOUNT_ATTR_STRICTATIME, true},
	{"relatime", unix.MOUNT_ATTR_RELATIME, false}, {"norelatime", unix.MOUNT_ATTR_RELATIME, true},
	{"nodiratime", unix.MOUNT_ATTR_NODIRATIME, false}, {"diratime", unix.MOUNT_ATTR_NODIRATIME, true},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, false}, {"symfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, true},
}

// ignoredOptions have no meaning for fsopen(2) and a bind: they are defaults, or mount(2) bits without effect.
var ignoredOptions = [...]string{"defaults", "silent", "loud", "iversion", "noiversion"}

// superOptions are flags of the whole filesystem that fsconfig(2) knows for all types, and what takes them back.
var superOptions = [...]struct{ set, clear string }{{"sync", "async"}, {"dirsync", ""}, {"lazytime", "nolazytime"}, {"mand", "nomand"}}

func parseOptions(list []string) (options, error) {
	var o options
	for _, option := range list {
		if option == "" || strings.IndexByte(option, 0) >= 0 {
			return o, fmt.Errorf("malformed option %q", option)
		}
		o.add(option)
	}
	return o, nil
}

func (o *options) add(option string) {
	switch option {
	case "bind":
		o.bind = true
		return
	case "rbind":
		o.bind, o.recursive = true, true
		return
	case "remount":
		o.remount = true
		return
	case "tmpcopyup":
		o.copyUp = true
		return
	case "idmap", "ridmap":
		o.idMapped, o.idMapBeneath = true, option == "ridmap"
		return
	}
	if slices.Contains(ignoredOptions[:], option) {
		return
	}
	if p, ok := parsePropagation(option); ok {
		o.propagation = append(o.propagation, p)
		return
	}
	for _, a := range attributeOptions {
		switch option {
		case a.name:
			change(&o.set, &o.clear, a.flag, a.clear)
			return
		case "r" + a.name:
			change(&o.rSet, &o.rClear, a.flag, a.clear)
			return
		}
	}
	for _, s := range superOptions {
		switch option {
		case s.set:
			o.super = append(o.super, option)
			return
		case s.clear:
			o.super = slices.DeleteFunc(o.super, func(set string) bool { return set == s.set })
			return
		}
	}
	o.data = append(o.data, splitData(option)...)
}

// change takes note of one option; a later one overrules an earlier one.
func change(set, clear *Attributes, flag Attributes, clears bool) {
	// The three kinds of access time are one field of the mount, whose value 0 is "relatime".
	if flag&unix.MOUNT_ATTR__ATIME == flag {
		switch {
		case !clears:
			*set = *set&^unix.MOUNT_ATTR__ATIME | flag
		case flag == unix.MOUNT_ATTR_RELATIME:
			return // there is nothing that would be less than relatime and not one of the others
		default:
			*set &^= flag
		}
		*clear |= unix.MOUNT_ATTR__ATIME
		return
	}
	if clears {
		*set, *clear = *set&^flag, *clear|flag
	} else {
		*set, *clear = *set|flag, *clear&^flag
	}
}

// splitData takes options apart that were written as one. A comma that belongs to a value has a backslash before it, as in overlayfs.
func splitData(option string) []string {
	var parts []string
	start := 0
	for i := range len(option) {
		if option[i] == ',' && (i == 0 || option[i-1] != '\\') {
			parts = append(parts, option[start:i])
			start = i + 1
		}
	}
	parts = append(parts, option[start:])
	return slices.DeleteFunc(parts, func(p string) bool { return p == "" })
}

// value is the value of the last "key=value" in data.
func value(data []string, key string) (string, bool) {
	for _, d := range slices.Backward(data) {
		if v, ok := strings.CutPrefix(d, key+"="); ok {
			return v, true
		}
	}
	return "", false
}
