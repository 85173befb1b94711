// Package docs holds the documentation. Its tests keep the parts of it that follow from the code true.
package docs

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/oci/policy"
	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

var update = flag.Bool("update", false, "write the table of keys in policy.md anew")

const (
	policyPage  = "policy.md"
	tableBegin  = "<!-- keys: begin; written by go test ./docs -update, but for the last column -->\n"
	tableEnd    = "<!-- keys: end -->\n"
	tableHeader = "| key | value | who may give it | in this version | meaning |\n| --- | --- | --- | --- | --- |\n"
	// notYet is what policy.Load says of what this version knows and does not do.
	notYet = "not supported by this version yet"
)

// TestPolicyKeys compares the table of keys with the keys that there are.
func TestPolicyKeys(t *testing.T) {
	page, err := os.ReadFile(policyPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(page), tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s lacks the marks of the table of keys", policyPage)
	}
	meanings := meaningsOf(table)
	var want strings.Builder
	want.WriteString(tableHeader)
	for _, key := range policy.Keys() {
		row := []string{"`" + key.Name + "`", value(t, key), source(key), state(t, key), meanings[key.Name]}
		want.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if meanings[key.Name] == "" {
			t.Errorf("%s: %s has no meaning", policyPage, key.Name)
		}
	}
	if table == want.String() {
		return
	}
	if !*update {
		t.Fatalf("%s: the table of keys is out of date: run go test ./docs -update\nwant:\n%s", policyPage, want.String())
	}
	if err := os.WriteFile(policyPage, []byte(before+tableBegin+want.String()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// meaningsOf reads the last column, which people write, by key.
func meaningsOf(table string) map[string]string {
	meanings := map[string]string{}
	for row := range strings.Lines(table) {
		// A "|" within a cell is escaped, so that it has no blanks around it.
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), " | ")
		if len(cells) == strings.Count(tableHeader[:strings.Index(tableHeader, "\n")], "|")-1 {
			meanings[strings.Trim(cells[0], " `")] = strings.TrimSpace(cells[len(cells)-1])
		}
	}
	return meanings
}

// value describes what the key takes; of words, only those that this version takes.
func value(t *testing.T, key policy.Key) string {
	if key.Kind != policy.Word || key.Later {
		return key.Kind.String()
	}
	var words []string
	for _, word := range key.Words {
		if !refused(t, key.Name, word) {
			words = append(words, "`"+word+"`")
		}
	}
	return strings.Join(words, ", ")
}

func source(key policy.Key) string {
	switch {
	case key.Only != "":
		return key.Only
	case key.Host:
		return "operator, profile; annotation only if the operator names the key"
	}
	return "all"
}

func state(t *testing.T, key policy.Key) string {
	if !key.Later {
		return "works"
	}
	if !refused(t, key.Name, "x") {
		t.Errorf("%s is marked as later, but not refused", key.Name)
	}
	return "refused"
}

// refused says whether an annotation, which the operator grants, is refused as not supported yet.
func refused(t *testing.T, key, value string) bool {
	config := t.TempDir() + "/config.toml"
	if err := os.WriteFile(config, fmt.Appendf(nil, "[annotations]\ngrant = [%q]\n", key), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := policy.Load(policy.Options{ConfigPath: config, Annotations: map[string]string{policy.AnnotationPrefix + key: value}})
	return err != nil && strings.Contains(err.Error(), notYet)
}

// TestEventCalls compares the table of calls that make events with those that do.
func TestEventCalls(t *testing.T) {
	const page, begin, end = "agent.md", "<!-- calls: written by go test ./docs -update -->\n", "<!-- calls: end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), begin)
	table, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		t.Fatalf("%s lacks the marks of the table of calls", page)
	}
	var order []seccompnotif.Category
	held, told := map[seccompnotif.Category][]string{}, map[seccompnotif.Category][]string{}
	for _, call := range seccompnotif.EventCalls() {
		if !slices.Contains(order, call.Category) {
			order = append(order, call.Category)
		}
		if call.Held {
			held[call.Category] = append(held[call.Category], "`"+call.Name+"`")
		} else {
			told[call.Category] = append(told[call.Category], "`"+call.Name+"`")
		}
	}
	var want strings.Builder
	want.WriteString("| category | calls that wait for a verdict | calls that are told |\n| --- | --- | --- |\n")
	for _, category := range order {
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", category, strings.Join(held[category], ", "), strings.Join(told[category], ", "))
	}
	if table == want.String() {
		return
	}
	if !*update {
		t.Fatalf("%s: the table of calls is out of date: run go test ./docs -update\nwant:\n%s", page, want.String())
	}
	if err := os.WriteFile(page, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSyscallGroups looks for every group on the page.
func TestSyscallGroups(t *testing.T) {
	page, err := os.ReadFile(policyPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range seccompnotif.Groups() {
		if !strings.Contains(string(page), "`@"+group+"`") {
			t.Errorf("%s does not name the group @%s", policyPage, group)
		}
	}
}
