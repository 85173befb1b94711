package policy

import "strings"

// Options name the sources.
type Options struct {
	// ConfigPath is the operator's configuration; "" is DefaultConfig, which may
	// be absent.
	ConfigPath string
	// Profile is the profile named on the command line, or "".
	Profile string
	// Annotations are those of the spec; others than this runtime's are ignored.
	Annotations map[string]string
}

// profileOption is how errors name Options.Profile.
const profileOption = "--profile"

// Load reads the sources and merges them, as the package documentation says.
// Faults of keys and values are of type *KeyError; every error is one line.
func Load(options Options) (Policy, error) {
	o, err := loadOperator(options.ConfigPath)
	if err != nil {
		return Policy{}, err
	}
	annotations, err := o.parseAnnotations(options.Annotations)
	if err != nil {
		return Policy{}, err
	}
	chosen, err := o.chooseProfiles(options.Profile, &annotations)
	if err != nil {
		return Policy{}, err
	}
	sandbox := isSandbox(options.Annotations)
	if sandbox {
		annotations.dropPaths()
	}

	m := merger{grant: o.grant}
	m.degrade(o.degradable)
	if err := m.add(&o.defaults, free); err != nil {
		return Policy{}, err
	}
	for i, choice := range chosen {
		profile, err := loadProfile(o.directory, choice.name, choice.by)
		if err != nil {
			return Policy{}, err
		}
		if sandbox && choice.free {
			profile.dropPaths()
		}
		as := bound
		if i == 0 {
			as = first
		}
		if err := m.add(&profile, as); err != nil {
			return Policy{}, err
		}
		m.policy.Profiles = append(m.policy.Profiles, choice.name)
	}
	if err := m.add(&annotations, bound); err != nil {
		return Policy{}, err
	}
	return m.finish(), nil
}

// choice is a profile and the key that named it.
type choice struct {
	name, by string
	free     bool // its author was free to have none: an annotation that takes no other's place
}

// chooseProfiles returns the profiles to apply, in order.
func (o *operator) chooseProfiles(option string, annotations *layer) ([]choice, error) {
	var chosen []choice
	switch {
	case option != "":
		if err := checkName(option); err != nil {
			return nil, &KeyError{Key: profileOption, Reason: err.Error()}
		}
		chosen = append(chosen, choice{name: option, by: profileOption})
	case o.profile != "":
		chosen = append(chosen, choice{name: o.profile, by: strings.Join([]string{o.defaults.file, "profiles.default"}, ": ")})
	}
	annotated := annotations.find("profile")
	if annotated == nil || len(chosen) > 0 && chosen[0].name == annotated.text {
		return chosen, nil
	}
	replaces := len(chosen) > 0 && annotated.key.matches(o.grant)
	if replaces {
		chosen = nil
	}
	return append(chosen, choice{annotated.text, annotations.spell("profile"), !replaces}), nil
}
