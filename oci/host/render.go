package host

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteTable writes findings for people: a line each, and what a lack means on a line of its own.
func WriteTable(w io.Writer, findings []Finding) error {
	width := 0
	for _, finding := range findings {
		width = max(width, len(finding.Name))
	}
	var text strings.Builder
	for _, finding := range findings {
		have := "yes"
		switch {
		case !finding.Have && finding.Required:
			have = "NO"
		case !finding.Have:
			have = "no"
		}
		fmt.Fprintf(&text, "%-*s  %-3s  %s\n", width, finding.Name, have, finding.Detail)
		if finding.Consequence != "" {
			fmt.Fprintf(&text, "%*s  %3s  -> %s\n", width, "", "", finding.Consequence)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// WriteJSON writes the description together with its findings, as one object.
func (d Description) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Host     Description `json:"host"`
		Findings []Finding   `json:"findings"`
	}{d, d.Findings()})
}
