package policy

import (
	"errors"
	"strconv"
	"strings"
)

// KeyError says what is wrong with one key of one source.
type KeyError struct {
	// File and Line locate the key. File is empty for an annotation; Line is 0
	// where the file as a whole is meant.
	File string
	Line int
	// Key is the name as its author wrote it, annotations with their prefix.
	Key string
	// Value is the value or the element that is wrong, empty where the key is.
	Value string
	// Reason says what is wrong.
	Reason string
	// Nearest is the valid key nearest to an unknown one.
	Nearest string
}

// Error is one line: place, key, value, reason, nearest key.
func (e *KeyError) Error() string {
	var out strings.Builder
	if e.File != "" {
		out.WriteString(e.File)
		if e.Line > 0 {
			out.WriteString(":" + strconv.Itoa(e.Line))
		}
		out.WriteString(": ")
	}
	if e.Key != "" {
		out.WriteString(printable(e.Key) + ": ")
	}
	if e.Value != "" {
		out.WriteString(strconv.Quote(e.Value) + ": ")
	}
	out.WriteString(e.Reason)
	if e.Nearest != "" {
		out.WriteString(", nearest is " + e.Nearest)
	}
	return out.String()
}

// printable quotes a key that would break or disguise the line.
func printable(key string) string {
	if quoted := strconv.Quote(key); quoted != `"`+key+`"` {
		return quoted
	}
	return key
}

// valueError is what the parsers of values return: the element at fault and
// the reason. The caller knows key and place.
type valueError struct{ value, reason string }

func (e *valueError) Error() string {
	if e.value == "" {
		return e.reason
	}
	return strconv.Quote(e.value) + ": " + e.reason
}

// wrong makes a valueError.
func wrong(value, reason string) error { return &valueError{value, reason} }

// locate makes a KeyError of a valueError.
func (s source) locate(err error, key string, line int) error {
	located := &KeyError{File: s.file, Line: line, Key: s.spell(key)}
	var value *valueError
	if errors.As(err, &value) {
		located.Value, located.Reason = value.value, value.reason
	} else {
		located.Reason = err.Error()
	}
	return located
}
