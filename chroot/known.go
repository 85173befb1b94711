package chroot

import "slices"

// KnownOptions are the mount options that mean something to this package, sorted. All others go to the filesystem as they are.
func KnownOptions() []string {
	known := append([]string{"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"}, ignoredOptions[:]...)
	for _, a := range attributeOptions {
		known = append(known, a.name, "r"+a.name)
	}
	for _, p := range propagations {
		known = append(known, p.name, "r"+p.name)
	}
	for _, s := range superOptions {
		for _, name := range []string{s.set, s.clear} {
			if name != "" {
				known = append(known, name)
			}
		}
	}
	slices.Sort(known)
	return known
}
