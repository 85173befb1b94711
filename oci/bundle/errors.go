package bundle

import (
	"errors"
	"fmt"
	"strings"
)

// FieldError says what is wrong with one field of a document.
type FieldError struct {
	// File is the document's path, with ":line:column" after it where the
	// document is not JSON at all. It is empty for a document that did not
	// come from a file.
	File string
	// Field is the path of the field, such as "mounts[2].destination"; empty
	// where the document as a whole is meant.
	Field string
	// Reason says what is wrong, and what was expected.
	Reason string
	// Err is the cause, where there is one beneath Reason.
	Err error
}

// Error joins file, field and reason into one line.
func (e *FieldError) Error() string {
	parts := make([]string, 0, 3)
	for _, part := range []string{e.File, e.Field, e.Reason} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// invalid makes the error of one field.
func invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// invalidCause makes the error of one field whose reason is another error.
func invalidCause(field string, err error) error {
	return &FieldError{Field: field, Reason: err.Error(), Err: err}
}

// missing makes the error of a required field that is absent or empty.
func missing(field string) error { return invalid(field, "missing") }

// unsupported makes the error of a field that the specification has and this
// version lacks.
func unsupported(field string) error {
	return invalid(field, "not supported by this version")
}

// inFile names the file in an error of this package.
func inFile(err error, file string) error {
	var field *FieldError
	if errors.As(err, &field) && field.File == "" {
		field.File = file
	}
	return err
}
