package policy

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what a source may say.
const (
	maxElements = 1024    // of one list
	maxRules    = 1 << 14 // of one list of endpoint rules: blocklists are long
	maxElement  = 4096    // bytes of one element; PATH_MAX, linux/limits.h
	maxName     = 128     // bytes of a profile's name
	maxPercent  = 100 * maxCPUs
)

// value is a parsed value; the key's kind says which field is meant.
type value struct {
	text   string
	texts  []string
	number int64
	truth  bool
	cpus   CPUSet
	mounts []Mount
}

// parseText parses the value of an annotation.
func (k *Key) parseText(text string) (value, error) {
	if !k.Kind.list() {
		return k.parseScalar(strings.TrimSpace(text))
	}
	elements := strings.Split(text, ";")
	for i := range elements {
		elements[i] = strings.TrimSpace(elements[i])
	}
	return k.parseList(elements)
}

// parseTOML parses a value as go-toml decodes it into an any.
func (k *Key) parseTOML(decoded any) (value, error) {
	switch decoded := decoded.(type) {
	case string:
		if !k.Kind.list() && k.Kind != Bool {
			return k.parseScalar(decoded)
		}
	case int64:
		switch k.Kind {
		case Count, Size:
			return k.parseScalar(strconv.FormatInt(decoded, 10))
		}
	case bool:
		if k.Kind == Bool {
			return value{truth: decoded}, nil
		}
	case []any:
		if k.Kind.list() {
			elements := make([]string, len(decoded))
			for i, element := range decoded {
				text, ok := element.(string)
				if !ok {
					return value{}, wrong("", fmt.Sprintf("expected an array of strings, found %s in it", describe(element)))
				}
				elements[i] = text
			}
			return k.parseList(elements)
		}
	}
	return value{}, wrong("", "expected "+k.expected()+", found "+describe(decoded))
}

// expected names the TOML type of the key.
func (k *Key) expected() string {
	switch {
	case k.Kind.list():
		return "an array of strings"
	case k.Kind == Bool:
		return "a boolean"
	case k.Kind == Count:
		return "an integer"
	case k.Kind == Size:
		return "a string or an integer"
	}
	return "a string"
}

// describe names the TOML type of a decoded value.
func describe(decoded any) string {
	switch decoded.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

func (k *Key) parseScalar(text string) (v value, err error) {
	if len(text) > maxElement {
		return value{}, wrong("", fmt.Sprintf("longer than %d bytes", maxElement))
	}
	if text == "" {
		return value{}, wrong("", "empty")
	}
	switch k.Kind {
	case Word:
		if !slices.Contains(k.Words, text) {
			return value{}, wrong(text, "expected one of "+strings.Join(k.Words, ", "))
		}
		if k.Name == "isolation" && text == "process" {
			return value{}, wrong(text, "not supported by this version yet")
		}
		v.text = text
	case Name:
		v.text = text
		err = checkName(text)
	case HostPath:
		v.text, err = parsePath(text)
	case Bool:
		v.truth, err = parseBool(text)
	case Count:
		v.number, err = parseCount(text)
		if err == nil && k.Name == "limits.cpu" && v.number > maxPercent {
			err = wrong(text, fmt.Sprintf("more than %d percent", maxPercent))
		}
	case Size:
		v.number, err = parseSize(text)
	case CPUs:
		v.cpus, err = ParseCPUSet(text)
	default:
		v.text = text
	}
	return v, err
}

func (k *Key) parseList(elements []string) (v value, err error) {
	limit := maxElements
	if k.Kind == Endpoints {
		limit = maxRules
	}
	if len(elements) > limit {
		return value{}, wrong("", fmt.Sprintf("more than %d elements", limit))
	}
	v.texts = make([]string, 0, len(elements))
	seen := make(map[string]bool, len(elements))
	for _, element := range elements {
		switch {
		case element == "":
			return value{}, wrong("", "empty element in the list")
		case len(element) > maxElement:
			return value{}, wrong(element[:32]+"...", fmt.Sprintf("longer than %d bytes", maxElement))
		case strings.ContainsFunc(element, func(r rune) bool { return r == 0 || r == '\n' }):
			return value{}, wrong(element, "contains a NUL byte or a line break")
		}
		switch k.Kind {
		case Paths:
			element, err = parsePath(element)
		case Mounts:
			var mount Mount
			if mount, err = parseMount(element); err == nil {
				if i := findMount(v.mounts, mount.Container); i >= 0 && v.mounts[i] != mount {
					err = wrong(element, mount.Container+" is given twice")
				} else if i < 0 {
					v.mounts = append(v.mounts, mount)
				}
			}
		case Names:
			err = checkSyscall(element)
		}
		if err != nil {
			return value{}, err
		}
		if !seen[element] {
			seen[element] = true
			v.texts = append(v.texts, element)
		}
	}
	return v, nil
}

// parseBool knows the spellings of the contract, in lower case.
func parseBool(text string) (bool, error) {
	switch text {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return false, wrong(text, "expected true or false")
}

func parseCount(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 {
		return 0, wrong(text, "expected a whole number from 1")
	}
	return int64(n), nil
}

// parseSize parses bytes: "1073741824", "512M", "1g".
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	switch text[len(text)-1] {
	case 'k', 'K':
		shift = 10
	case 'm', 'M':
		shift = 20
	case 'g', 'G':
		shift = 30
	case 't', 'T':
		shift = 40
	}
	if shift > 0 {
		digits = text[:len(text)-1]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 {
		return 0, wrong(text, "expected bytes from 1, with K, M, G or T after them for powers of 1024")
	}
	if n > math.MaxInt64>>shift {
		return 0, wrong(text, "too large")
	}
	return int64(n) << shift, nil
}

// parsePath cleans an absolute path. A ".." in it is refused: what it means
// depends on symbolic links, so it hardly means what its author thinks.
func parsePath(text string) (string, error) {
	if !path.IsAbs(text) {
		return "", wrong(text, "expected an absolute path")
	}
	for element := range strings.SplitSeq(text, "/") {
		if element == ".." {
			return "", wrong(text, `".." is not allowed in a path`)
		}
	}
	return path.Clean(text), nil
}

// parseMount parses CONTAINER:HOST[:ro].
func parseMount(text string) (Mount, error) {
	container, rest, ok := strings.Cut(text, ":")
	host, option, hasOption := strings.Cut(rest, ":")
	if !ok || container == "" || host == "" || hasOption && option != "ro" {
		return Mount{}, wrong(text, "expected CONTAINER:HOST or CONTAINER:HOST:ro")
	}
	mount := Mount{ReadOnly: hasOption}
	var err error
	if mount.Container, err = parsePath(container); err == nil {
		mount.Host, err = parsePath(host)
	}
	if err != nil {
		return Mount{}, err
	}
	if mount.Container == "/" {
		return Mount{}, wrong(text, "the root itself cannot be mounted over")
	}
	return mount, nil
}

// findMount returns the index of a container path, or -1.
func findMount(mounts []Mount, container string) int {
	return slices.IndexFunc(mounts, func(m Mount) bool { return m.Container == container })
}

// checkSyscall checks the spelling of a syscall's or a group's name. Whether it
// exists depends on the architecture, and the filter's author knows.
func checkSyscall(name string) error {
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("_-@", c) >= 0) {
			return wrong(name, "expected the name of a syscall or of a group, in lower case")
		}
	}
	return nil
}

// checkName checks the name of a profile, which becomes a file name.
func checkName(name string) error {
	if len(name) > maxName {
		return wrong("", fmt.Sprintf("longer than %d bytes", maxName))
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-", c) >= 0) {
			return wrong(name, "expected a name of letters, digits, '.', '_' and '-'")
		}
	}
	if name[0] == '.' {
		return wrong(name, "a name cannot begin with '.'")
	}
	return nil
}
