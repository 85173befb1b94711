package policy

import "strconv"

// source is one origin of keys: the operator's configuration, a profile, or
// the annotations.
type source struct {
	kind string // onlyOperator, onlyAnnotation, or sourceProfile
	file string // empty for annotations
}

// sourceProfile is the kind of a profile; no key is for profiles only.
const sourceProfile = "a profile"

// spell writes a key as the source's author does.
func (s source) spell(key string) string {
	if s.kind == onlyAnnotation {
		return AnnotationPrefix + key
	}
	return key
}

// origin is what Policy.Provenance says of a key.
func (s source) origin(line int) string {
	if s.kind == onlyAnnotation {
		return FromAnnotation
	}
	return s.file + ":" + strconv.Itoa(line)
}

// lookup finds a key that the source may give, or says what is wrong with it.
func (s source) lookup(name string, line int) (*Key, error) {
	key := findKey(name)
	fault := &KeyError{File: s.file, Line: line, Key: s.spell(name)}
	switch {
	case key == nil || key.Only == onlyOperator && s.kind == onlyAnnotation:
		fault.Reason = "unknown key"
		fault.Nearest = s.spell(nearestKey(name, s.kind))
	case !key.from(s.kind):
		fault.Reason = "belongs in " + key.Only
	case key.Later:
		fault.Reason = "not supported by this version yet"
	default:
		return key, nil
	}
	return nil, fault
}

// setting is one key that a source gives, with its value parsed.
type setting struct {
	key  *Key
	line int
	value
}

// layer is all that one source gives, in its author's order.
type layer struct {
	source
	settings []setting
}

// find returns the setting of a key, or nil.
func (l *layer) find(name string) *setting {
	for i := range l.settings {
		if l.settings[i].key.Name == name {
			return &l.settings[i]
		}
	}
	return nil
}
