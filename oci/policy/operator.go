package policy

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Places of the operator's files.
const (
	DefaultConfig   = "/etc/sandlock/config.toml"
	DefaultProfiles = "/etc/sandlock/profiles"
)

// operator is the operator's configuration.
type operator struct {
	defaults   layer
	allow      []string // annotations.allow
	allowGiven bool
	grant      []string // annotations.grant
	directory  string   // profiles.directory
	profile    string   // profiles.default, or ""
	degradable []string
}

// loadOperator reads the configuration. Without a path it is the default one,
// which may be absent.
func loadOperator(file string) (*operator, error) {
	optional := file == ""
	if optional {
		file = DefaultConfig
	}
	data, err := readFile(file)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return &operator{directory: DefaultProfiles}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseOperator(file, data)
}

// parseOperator parses a configuration.
func parseOperator(file string, data []byte) (*operator, error) {
	from := source{kind: onlyOperator, file: file}
	all, err := parseDocument(data, from)
	if err != nil {
		return nil, err
	}
	o := &operator{directory: DefaultProfiles, defaults: layer{source: from}}
	for _, s := range all.settings {
		switch s.key.Name {
		case "annotations.allow":
			o.allow, o.allowGiven = s.texts, true
			err = checkKeyNames(s.texts)
		case "annotations.grant":
			o.grant = s.texts
			err = checkKeyNames(s.texts)
		case "profiles.directory":
			o.directory = path.Clean(s.text)
			if !path.IsAbs(s.text) {
				err = wrong(s.text, "expected an absolute path")
			}
		case "profiles.default":
			o.profile = s.text
		case "degradable":
			o.degradable = s.texts
			err = checkProtections(s.texts)
		default:
			o.defaults.settings = append(o.defaults.settings, s)
		}
		if err != nil {
			return nil, from.locate(err, s.key.Name, s.line)
		}
	}
	return o, nil
}

// checkKeyNames checks a list of keys of annotations, and of "section.*".
func checkKeyNames(names []string) error {
	for _, name := range names {
		if section, all := strings.CutSuffix(name, ".*"); all {
			if nearest := nearestSection(section, onlyAnnotation); nearest != section {
				return wrong(name, "unknown section, nearest is "+nearest+".*")
			}
			continue
		}
		if key := findKey(name); key == nil || !key.from(onlyAnnotation) {
			return wrong(name, "unknown key, nearest is "+nearestKey(name, onlyAnnotation))
		}
	}
	return nil
}

func checkProtections(names []string) error {
	for _, name := range names {
		if !slices.Contains(protections[:], name) {
			return wrong(name, "unknown protection, nearest is "+nearest(name, protections[:]))
		}
	}
	return nil
}
