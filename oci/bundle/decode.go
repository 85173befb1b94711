package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Parse decodes a config.json. It reports JSON that is malformed (by line and
// column), values of the wrong type (by field) and strings that contain a NUL
// byte, which the kernel would cut short. Call Validate for everything else.
func Parse(data []byte) (*specs.Spec, error) {
	return decode[specs.Spec](data)
}

// decode decodes a document whose top level is an object. It decodes once; the
// document is looked at again only to say where an error is.
func decode[T any](data []byte) (*T, error) {
	var into *T
	if err := json.Unmarshal(data, &into); err != nil {
		return nil, explain(data, err)
	}
	if into == nil {
		return nil, invalid("", "expected object, found null")
	}
	if bytes.Contains(data, []byte(`\u0000`)) {
		if field := findNUL(reflect.ValueOf(into), ""); field != "" {
			return nil, invalid(field, "contains a NUL byte")
		}
	}
	return into, nil
}

// explain turns an error of encoding/json into one that says where.
func explain(data []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line, column := position(data, syntax.Offset)
		return &FieldError{
			Reason: fmt.Sprintf("line %d, column %d: %v", line, column, err),
			Err:    err,
		}
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return &FieldError{
			Field:  fieldAt(data, mismatch.Offset),
			Reason: fmt.Sprintf("expected %s, found %s", describe(mismatch.Type), mismatch.Value),
			Err:    err,
		}
	}
	return invalidCause("", err)
}

// position converts the offset of a syntax error, which counts the offending
// byte, to a line and a column, both from 1, columns in bytes.
func position(data []byte, offset int64) (line, column int) {
	before := data[:min(max(offset-1, 0), int64(len(data)))]
	line = bytes.Count(before, []byte("\n")) + 1
	column = len(before) - bytes.LastIndexByte(before, '\n')
	return line, column
}

// describe names the JSON value that a Go type is decoded from.
func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return describe(t.Elem())
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer from 0 to " + strconv.FormatUint(math.MaxUint64>>(64-t.Bits()), 10)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("integer of %d bits", t.Bits())
	default:
		return "number"
	}
}

// step is one level of a path into a document.
type step struct {
	key   string // member of an object
	index int    // element of an array, -1 for a member
}

// fieldAt returns the path of the value at which encoding/json reported a type
// mismatch. UnmarshalTypeError.Field has neither array indexes nor map keys, so
// the tokens are walked again up to the offset.
func fieldAt(data []byte, offset int64) string {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var path []step
	expectKey := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return render(path)
		}
		depth := len(path)
		switch token {
		case json.Delim('}'), json.Delim(']'):
			path = path[:depth-1]
			expectKey = len(path) > 0 && path[len(path)-1].index < 0
			continue
		}
		if expectKey {
			path[depth-1].key = token.(string)
			expectKey = false
			continue
		}
		if depth > 0 && path[depth-1].index >= 0 {
			path[depth-1].index++
		}
		if decoder.InputOffset() >= offset {
			return render(path)
		}
		switch token {
		case json.Delim('{'):
			path = append(path, step{index: -1})
			expectKey = true
		case json.Delim('['):
			path = append(path, step{index: 0})
		default:
			expectKey = depth > 0 && path[depth-1].index < 0
		}
	}
}

// render writes a path as "linux.namespaces[2].type".
func render(path []step) string {
	var out []byte
	for _, s := range path {
		switch {
		case s.index >= 0:
			// fieldAt counts the elements it has begun.
			out = fmt.Appendf(out, "[%d]", max(s.index-1, 0))
		default:
			out = append(out, member(string(out), s.key)...)
		}
	}
	return string(out)
}

// member returns what follows parent to name its member key, quoted where the
// key would not read as one word.
func member(parent, key string) string {
	for _, c := range []byte(key) {
		word := c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !word {
			return "[" + strconv.Quote(key) + "]"
		}
	}
	if parent == "" {
		return key
	}
	return "." + key
}

// findNUL returns the path of a string with a NUL byte in it, or "".
func findNUL(v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return findNUL(v.Elem(), path)
		}
	case reflect.String:
		if bytes.IndexByte([]byte(v.String()), 0) >= 0 {
			if path == "" {
				path = "document"
			}
			return path
		}
	case reflect.Slice:
		for i := range v.Len() {
			if found := findNUL(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); found != "" {
				return found
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			field := path + member(path, it.Key().String())
			if bytes.IndexByte([]byte(it.Key().String()), 0) >= 0 {
				return field
			}
			if found := findNUL(it.Value(), field); found != "" {
				return found
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := path
			if structField := v.Type().Field(i); !structField.Anonymous {
				name, _, _ := bytes.Cut([]byte(structField.Tag.Get("json")), []byte(","))
				field += member(path, string(name))
			}
			if found := findNUL(v.Field(i), field); found != "" {
				return found
			}
		}
	}
	return ""
}
