package oci

import (
	"io"
	"strings"

	"github.com/sandlock/sandlock-runtime/oci/host"
)

// HostReport is what this host gives to containers, and lacks.
type HostReport struct {
	host     host.Description
	findings []host.Finding
}

// Check looks at this host. It changes nothing.
func Check() HostReport {
	description := host.Describe()
	return HostReport{description, description.Findings()}
}

// WriteTable writes the report for people.
func (r HostReport) WriteTable(w io.Writer) error { return host.WriteTable(w, r.findings) }

// WriteJSON writes the report as one object.
func (r HostReport) WriteJSON(w io.Writer) error { return r.host.WriteJSON(w) }

// Lacking names what no container runs without and this host does not have; "" if it has everything.
func (r HostReport) Lacking() string {
	var names []string
	for _, finding := range host.Lacks(r.findings) {
		names = append(names, finding.Name)
	}
	return strings.Join(names, ", ")
}
