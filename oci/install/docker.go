package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// DockerFile is where dockerd looks for its configuration.
const DockerFile = "/etc/docker/daemon.json"

// Docker edits daemon.json, dockerd(8).
type Docker struct{}

// runtimesKey is the member of daemon.json that registers runtimes.
const runtimesKey = "runtimes"

// dockerRuntime is one member of it.
type dockerRuntime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
}

// Install implements [Editor].
func (Docker) Install(before []byte, r Runtime) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	file, runtimes, err := parseDaemon(before)
	if err != nil {
		return nil, err
	}
	want := dockerRuntime{Path: r.Path}
	if r.Profile != "" {
		want.Args = []string{"--profile", r.Profile}
	}
	if old, ok := runtimes.get(r.Name); ok {
		var have dockerRuntime
		if err := json.Unmarshal(old, &have); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", runtimesKey, r.Name, err)
		}
		if reflect.DeepEqual(have, want) {
			return before, nil
		}
		if !ours(have.Path) {
			return nil, fmt.Errorf("%s.%s is registered already, for %q: remove it, or choose another name", runtimesKey, r.Name, have.Path)
		}
	}
	entry, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	runtimes.set(r.Name, entry)
	return file.with(runtimes, before)
}

// Uninstall implements [Editor].
func (Docker) Uninstall(before []byte, name string) ([]byte, error) {
	file, runtimes, err := parseDaemon(before)
	if err != nil {
		return nil, err
	}
	old, ok := runtimes.get(name)
	if !ok {
		return before, nil
	}
	var have dockerRuntime
	if err := json.Unmarshal(old, &have); err != nil || !ours(have.Path) {
		return nil, fmt.Errorf("%s.%s is not of this runtime: left alone", runtimesKey, name)
	}
	runtimes.remove(name)
	return file.with(runtimes, before)
}

// Same implements [Editor].
func (Docker) Same(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Blank implements [Editor].
func (d Docker) Blank(text []byte) bool { return d.Same(text, []byte("{}")) }

// Registered implements [Editor].
func (Docker) Registered(text []byte) bool {
	_, runtimes, err := parseDaemon(text)
	return err == nil && slices.ContainsFunc(runtimes, func(m member) bool {
		var r dockerRuntime
		return json.Unmarshal(m.value, &r) == nil && ours(r.Path)
	})
}

func parseDaemon(text []byte) (file, runtimes object, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil, nil
	}
	if file, err = parseObject(text); err != nil {
		return nil, nil, err
	}
	if member, ok := file.get(runtimesKey); ok {
		if runtimes, err = parseObject(member); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", runtimesKey, err)
		}
	}
	return file, runtimes, nil
}

// with returns the file's text with other runtimes, indented as before.
func (o object) with(runtimes object, before []byte) ([]byte, error) {
	o = slices.Clone(o)
	if len(runtimes) == 0 {
		o.remove(runtimesKey)
	} else {
		o.set(runtimesKey, runtimes.text())
	}
	var out bytes.Buffer
	if err := json.Indent(&out, o.text(), "", indentation(before)); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// indentation is what the first indented line of a document begins with, two blanks if there is none.
func indentation(text []byte) string {
	for line := range bytes.Lines(text) {
		if rest := bytes.TrimLeft(line, " \t"); len(rest) < len(line) && len(bytes.TrimSpace(rest)) > 0 {
			return string(line[:len(line)-len(rest)])
		}
	}
	return "  "
}
