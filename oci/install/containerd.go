package install

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ContainerdFile is where containerd looks for its configuration.
const ContainerdFile = "/etc/containerd/config.toml"

// Containerd edits config.toml, containerd-config.toml(5), for containerd's CRI plug-in. The registration is a block of its own between two
// comments, so that the rest of the file stays as it is, to the letter.
type Containerd struct {
	// NewVersion is the version of a configuration that is not there yet: 2 for containerd 1.x, 3 for 2.x.
	NewVersion int
}

// The CRI plug-in's name by the version of the configuration.
var criPlugin = map[int]string{2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime", 4: "io.containerd.cri.v1.runtime"}

// containerdConfig is what has to be known of a configuration.
type containerdConfig struct {
	Version int `toml:"version"`
	Plugins map[string]struct {
		Containerd struct {
			Runtimes map[string]struct {
				Type        string   `toml:"runtime_type"`
				Annotations []string `toml:"pod_annotations"`
				Options     struct {
					BinaryName    string
					SystemdCgroup bool
				} `toml:"options"`
			} `toml:"runtimes"`
		} `toml:"containerd"`
	} `toml:"plugins"`
}

// Install implements [Editor].
func (c Containerd) Install(before []byte, r Runtime) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Profile != "" {
		return nil, ErrProfile
	}
	rest, had := cutBlock(before, r.Name)
	config, version, err := c.parse(rest)
	if err != nil {
		return nil, err
	}
	runtimes := config.Plugins[criPlugin[version]].Containerd.Runtimes
	if other, ok := runtimes[r.Name]; ok {
		return nil, fmt.Errorf("runtime %s is registered already, for %q: remove it, or choose another name", r.Name, other.Options.BinaryName)
	}
	var out bytes.Buffer
	if len(bytes.TrimSpace(rest)) == 0 {
		fmt.Fprintf(&out, "version = %d\n", version)
	} else {
		out.Write(rest)
		if !bytes.HasSuffix(rest, []byte("\n")) {
			out.WriteByte('\n')
		}
	}
	// The kubelet and the runtimes must agree on who makes cgroups.
	out.WriteString(block(r, criPlugin[version], runtimes["runc"].Options.SystemdCgroup))
	after := out.Bytes()
	if _, _, err := c.parse(after); err != nil {
		return nil, fmt.Errorf("the runtimes in it cannot be extended by a table of their own: %w", err)
	}
	if had && c.Same(before, after) {
		return before, nil
	}
	return after, nil
}

// Uninstall implements [Editor].
func (c Containerd) Uninstall(before []byte, name string) ([]byte, error) {
	config, version, err := c.parse(before)
	if err != nil {
		return nil, err
	}
	rest, had := cutBlock(before, name)
	if !had {
		if _, ok := config.Plugins[criPlugin[version]].Containerd.Runtimes[name]; ok {
			return nil, fmt.Errorf("runtime %s was not registered by this command: left alone", name)
		}
		return before, nil
	}
	if _, _, err := c.parse(rest); err != nil {
		return nil, fmt.Errorf("without the block of %s: %w", name, err)
	}
	return rest, nil
}

// Same implements [Editor].
func (Containerd) Same(a, b []byte) bool {
	var x, y map[string]any
	return toml.Unmarshal(a, &x) == nil && toml.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Blank implements [Editor].
func (Containerd) Blank(text []byte) bool {
	var config map[string]any
	if err := toml.Unmarshal(text, &config); err != nil {
		return false
	}
	delete(config, "version")
	return len(config) == 0
}

// Registered implements [Editor].
func (Containerd) Registered(text []byte) bool {
	mark, _, _ := strings.Cut(blockBegins, "%s")
	return bytes.Contains(text, []byte(mark))
}

func (c Containerd) parse(text []byte) (config containerdConfig, version int, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		config.Version = c.NewVersion
	} else if err := toml.Unmarshal(text, &config); err != nil {
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			line, _ := decode.Position()
			return config, 0, fmt.Errorf("line %d: %s", line, strings.TrimPrefix(err.Error(), "toml: "))
		}
		return config, 0, errors.New(strings.TrimPrefix(err.Error(), "toml: "))
	}
	if _, known := criPlugin[config.Version]; !known {
		return config, 0, fmt.Errorf("version %d of the configuration: only 2 to 4 are known (containerd config migrate)", config.Version)
	}
	return config, config.Version, nil
}

const (
	blockBegins = "# sandlock-runtime: begin %s, written by \"sandlock-runtime install containerd\"\n"
	blockEnds   = "# sandlock-runtime: end %s\n"
)

func block(r Runtime, plugin string, systemd bool) string {
	table := fmt.Sprintf("plugins.%s.containerd.runtimes.%s", strconv.Quote(plugin), r.Name)
	var b strings.Builder
	fmt.Fprintf(&b, blockBegins, r.Name)
	fmt.Fprintf(&b, "[%s]\n  runtime_type = \"io.containerd.runc.v2\"\n  pod_annotations = [\"io.sandlock.*\"]\n", table)
	fmt.Fprintf(&b, "  [%s.options]\n    BinaryName = %s\n", table, strconv.Quote(r.Path))
	if systemd {
		b.WriteString("    SystemdCgroup = true\n")
	}
	fmt.Fprintf(&b, blockEnds, r.Name)
	return b.String()
}

// cutBlock returns a configuration without the block of name, and whether it was there.
func cutBlock(text []byte, name string) (rest []byte, had bool) {
	ends := fmt.Appendf(nil, blockEnds, name)
	from := indexLine(text, fmt.Appendf(nil, blockBegins, name))
	if from < 0 {
		return text, false
	}
	length := indexLine(text[from:], ends)
	if length < 0 {
		return text, false
	}
	return append(bytes.Clone(text[:from]), text[from+length+len(ends):]...), true
}

// indexLine is where a whole line stands first, -1 if nowhere.
func indexLine(text, line []byte) int {
	if bytes.HasPrefix(text, line) {
		return 0
	}
	if at := bytes.Index(text, append([]byte{'\n'}, line...)); at >= 0 {
		return at + 1
	}
	return -1
}
