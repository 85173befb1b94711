package docs

import (
	"os"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/netfilter"
)

const networkPage = "network.md"

// TestNetworkGrammar parses the examples of the page: every rule and list of the tables of valid ones, and of invalid ones, whose error must be the one
// shown.
func TestNetworkGrammar(t *testing.T) {
	content, err := os.ReadFile(networkPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	rule := func(text string) error { _, err := netfilter.ParseRule(text); return err }
	denyRule := func(text string) error { _, err := netfilter.ParseDenyRule(text); return err }
	ports := func(text string) error { _, err := netfilter.ParsePorts(text); return err }
	for mark, parse := range map[string]func(string) error{"valid rules": rule, "valid port lists": ports} {
		for _, row := range section(t, page, mark) {
			if err := parse(row[0]); err != nil {
				t.Errorf("shown as valid: %v", err)
			}
		}
	}
	for mark, parse := range map[string]func(string) error{"invalid rules": rule, "invalid deny rules": denyRule, "invalid port lists": ports} {
		for _, row := range section(t, page, mark) {
			if err := parse(row[0]); err == nil || err.Error() != row[1] {
				t.Errorf("%q: got error %q, the page shows %q", row[0], err, row[1])
			}
		}
	}
}

// section returns the cells, which are all code, of the table after a mark.
func section(t *testing.T, page, mark string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(page, "<!-- "+mark+" -->\n")
	if !found {
		t.Fatalf("%s lacks the mark %q", networkPage, mark)
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	var rows [][]string
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if i < 2 { // the header
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
			cells = append(cells, strings.Trim(strings.TrimSpace(cell), "`"))
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 {
		t.Errorf("no row after the mark %q", mark)
	}
	return rows
}
