package conformance

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	documentPath = "../../docs/conformance.md"
	hostLacks    = "this host has "
	specAddress  = "https://github.com/opencontainers/runtime-spec/blob/v" + specVersion + "/"
	intro        = `# Conformance

What the [OCI runtime specification](https://github.com/opencontainers/runtime-spec/tree/v%s) %s asks of a Linux runtime, in every place where it says
MUST or REQUIRED, and what a run of the tests in ` + "`integration/conformance`" + ` found: for %s, and for %s beside it. Written by
` + "`go test ./integration/conformance -update`" + `; the test fails when a verdict here is not that of the run, and where runc passes and sandlock-runtime fails.

"Not supported by this version" is said of what came with a later version of the specification than the runtime says it is for.

`
)

// compare fails the test where the document and the run differ, or writes the document anew.
func compare(t *testing.T, table []section, subjects []subject, verdicts map[string][]verdict) {
	t.Helper()
	want := render(table, subjects, verdicts)
	if *update {
		if err := os.WriteFile(documentPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	// Another runc than the document's may differ: only the column of sandlock-runtime is compared then.
	sameRunc := strings.Contains(string(text), subjects[1].version+" beside it")
	if !sameRunc {
		t.Logf("the document is of another runc than %s: its column is not compared", subjects[1].version)
	}
	got, fresh := rowsOf(string(text)), rowsOf(want)
	for name, now := range fresh {
		then, found := got[name]
		switch {
		case !found:
			t.Errorf("docs/conformance.md lacks the row %s: run go test ./integration/conformance -update", name)
		case differ(then[0], now[0]) || sameRunc && differ(then[1], now[1]):
			t.Errorf("docs/conformance.md says %q of %s, the run says %q", then, name, now)
		}
	}
	for name := range got {
		if _, found := fresh[name]; !found {
			t.Errorf("docs/conformance.md has the row %s, which there is no more: run go test ./integration/conformance -update", name)
		}
	}
}

// differ compares two verdicts. What a host lacks is not the runtime's: such a row is compared where both hosts have it.
func differ(a, b string) bool {
	lacking := notApplicable + ": " + hostLacks
	return a != b && !strings.HasPrefix(a, lacking) && !strings.HasPrefix(b, lacking)
}

// rowsOf reads the verdicts of each row of the document.
func rowsOf(text string) map[string][2]string {
	rows := map[string][2]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) == 4 && strings.Contains(cells[0], specAddress) {
			rows[strings.TrimSpace(cells[0])+" "+cells[1]] = [2]string{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
		}
	}
	return rows
}

func render(table []section, subjects []subject, verdicts map[string][]verdict) string {
	var out strings.Builder
	ours := strings.Fields(subjects[0].version)[0]
	fmt.Fprintf(&out, intro, specVersion, specVersion, ours, subjects[1].version)
	out.WriteString(summary(table, subjects, verdicts))
	document := ""
	for _, s := range table {
		if s.document != document {
			document = s.document
			fmt.Fprintf(&out, "\n## %s\n", document)
		}
		fmt.Fprintf(&out, "\n### %s\n\n| line | requirement | %s | %s |\n| --- | --- | --- | --- |\n", s.title, subjects[0].name, subjects[1].name)
		for _, row := range s.rows {
			var links []string
			for _, line := range row.at() {
				links = append(links, fmt.Sprintf("[%d](%s%s?plain=1#L%d)", line, specAddress, document, line))
			}
			v := verdicts[key(s, row)]
			fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", strings.Join(links, ", "), row.says, v[0], v[1])
		}
	}
	return out.String()
}

func (v verdict) String() string {
	switch {
	case v.reason != "":
		return v.word + ": " + v.reason
	case v.word == failed:
		return "**" + v.word + "**"
	}
	return v.word
}

// summary counts the verdicts.
func summary(table []section, subjects []subject, verdicts map[string][]verdict) string {
	words := []string{passed, failed, tooNew, notApplicable}
	var out strings.Builder
	out.WriteString("| | " + strings.Join(words, " | ") + " |\n| --- | --- | --- | --- | --- |\n")
	for i, subject := range subjects {
		counts := map[string]int{}
		for _, s := range table {
			for _, row := range s.rows {
				counts[verdicts[key(s, row)][i].word]++
			}
		}
		fmt.Fprintf(&out, "| %s |", subject.name)
		for _, word := range words {
			fmt.Fprintf(&out, " %d |", counts[word])
		}
		out.WriteString("\n")
	}
	return out.String()
}
