package policy

import (
	"slices"
	"strings"
)

// parseAnnotations parses this runtime's annotations, in order of their names so
// that which fault is reported does not depend on the map. The key profile is in
// the layer like any other.
func (o *operator) parseAnnotations(annotations map[string]string) (layer, error) {
	result := layer{source: source{kind: onlyAnnotation}}
	var names []string
	for name := range annotations {
		if strings.HasPrefix(name, AnnotationPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, annotation := range names {
		name := strings.TrimPrefix(annotation, AnnotationPrefix)
		key, err := result.lookup(name, 0)
		if err != nil {
			return layer{}, err
		}
		if reason := o.refusal(key); reason != "" {
			return layer{}, &KeyError{Key: annotation, Reason: reason}
		}
		parsed, err := key.parseText(annotations[annotation])
		if err != nil {
			return layer{}, result.locate(err, name, 0)
		}
		result.settings = append(result.settings, setting{key: key, value: parsed})
	}
	return result, nil
}

// refusal says why a key may not be used in annotations, or "".
func (o *operator) refusal(key *Key) string {
	switch {
	case key.matches(o.grant):
		return ""
	case key.Host && !slices.Contains(o.allow, key.Name):
		return "reaches the host, so the operator's annotations.grant must list " + key.Name
	case o.allowGiven && !key.matches(o.allow):
		return "not in the operator's annotations.allow"
	}
	return ""
}
