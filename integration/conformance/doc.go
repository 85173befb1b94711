// Package conformance holds the runtime specification's demands on a Linux runtime, one row each, with the test of the row or
// the reason why there is none. Each test runs against sandlock-runtime and against runc, and docs/conformance.md is what
// came out: `go test ./integration/conformance -update` writes it, and without -update the test fails where the document
// tells another verdict than the run, and where runc passes and sandlock-runtime does not.
//
// The rows are found by document and line of the specification's version that go.mod asks for: no line of it that says
// MUST, REQUIRED or SHALL may lack a row.
package conformance
