package policy

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parseDocument parses a TOML document of the source: keys that the table does
// not have, tables of no section and values of a wrong type are errors with
// their line.
func parseDocument(data []byte, from source) (layer, error) {
	// The decoder finds malformed documents and repeated keys, the parser tells
	// where each key stands.
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		return layer{}, from.explain(err)
	}
	result := layer{source: from}
	for _, at := range locateKeys(data) {
		name := strings.Join(at.path, ".")
		if at.table {
			if err := from.checkTable(name, at); err != nil {
				return layer{}, err
			}
			continue
		}
		if isSection(name) {
			return layer{}, &KeyError{File: from.file, Line: at.line, Key: name, Reason: "expected a table"}
		}
		key, err := from.lookup(name, at.line)
		if err != nil {
			return layer{}, err
		}
		decoded, ok := descend(document, at.path)
		if !ok {
			// A quoted name with a dot in it only looks like a key of a section.
			return layer{}, &KeyError{File: from.file, Line: at.line, Key: name, Reason: "write section and key without quotes"}
		}
		parsed, err := key.parseTOML(decoded)
		if err != nil {
			return layer{}, from.locate(err, name, at.line)
		}
		result.settings = append(result.settings, setting{key: key, line: at.line, value: parsed})
	}
	return result, nil
}

// explain turns an error of go-toml into one with file and line.
func (s source) explain(err error) error {
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return &KeyError{File: s.file, Reason: strings.TrimPrefix(err.Error(), "toml: ")}
	}
	line, _ := decode.Position()
	return &KeyError{
		File: s.file, Line: line,
		Reason: strings.TrimPrefix(decode.Error(), "toml: "),
	}
}

// checkTable checks the header of a table.
func (s source) checkTable(name string, at location) error {
	fault := &KeyError{File: s.file, Line: at.line, Key: name}
	key := findKey(name)
	switch {
	case key != nil:
		fault.Reason = "expected " + key.expected() + ", found a table"
	case !isSection(name):
		fault.Reason = "unknown table"
		fault.Nearest = nearestSection(name, s.kind)
	case at.array:
		fault.Reason = "expected one table, found an array of them"
	default:
		return nil
	}
	return fault
}

// location is a key or a table header of a document.
type location struct {
	path  []string
	line  int
	table bool // a header
	array bool // a header of an array of tables
}

// locateKeys lists the keys and headers of a valid document in order, those in
// inline tables as if they were written with dots.
func locateKeys(data []byte) []location {
	var found []location
	var table []string
	parser := unstable.Parser{}
	parser.Reset(data)
	for parser.NextExpression() {
		node := parser.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			at := readKey(data, node, nil)
			at.table, at.array = true, node.Kind == unstable.ArrayTable
			table = at.path
			found = append(found, at)
		case unstable.KeyValue:
			found = appendKeys(found, data, node, table)
		}
	}
	return found
}

// appendKeys adds a key, or the keys of the inline table that is its value.
func appendKeys(found []location, data []byte, node *unstable.Node, table []string) []location {
	at := readKey(data, node, table)
	value := node.Value()
	if value.Kind != unstable.InlineTable || findKey(strings.Join(at.path, ".")) != nil {
		return append(found, at)
	}
	at.table = true
	found = append(found, at)
	for children := value.Children(); children.Next(); {
		if child := children.Node(); child.Kind == unstable.KeyValue {
			found = appendKeys(found, data, child, at.path)
		}
	}
	return found
}

// readKey reads the key of a key-value pair or of a header.
func readKey(data []byte, node *unstable.Node, table []string) location {
	at := location{path: append([]string(nil), table...)}
	for key := node.Key(); key.Next(); {
		if at.line == 0 {
			at.line = bytes.Count(data[:key.Node().Raw.Offset], []byte("\n")) + 1
		}
		at.path = append(at.path, string(key.Node().Data))
	}
	return at
}

// descend returns the value at a path of a decoded document.
func descend(document map[string]any, path []string) (any, bool) {
	var value any = document
	for _, name := range path {
		table, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = table[name]; !ok {
			return nil, false
		}
	}
	// A name with a dot in it would be found under another key's name.
	for _, name := range path {
		if strings.Contains(name, ".") {
			return nil, false
		}
	}
	return value, true
}
