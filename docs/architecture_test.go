package docs

import (
	"cmp"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	architecturePage = "architecture.md"
	roomsHeader      = "| room | what it does |\n"
	module           = "github.com/sandlock/sandlock-runtime/"
)

// TestArrowsGoDown checks that each package imports only what is further down in the table of rooms.
func TestArrowsGoDown(t *testing.T) {
	page, err := os.ReadFile(architecturePage)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), roomsHeader)
	table, _, ended := strings.Cut(table, "\n\n")
	if !found || !ended {
		t.Fatalf("%s lacks the table of rooms", architecturePage)
	}
	rows := map[string]int{} // by room
	for i, row := range strings.Split(table, "\n") {
		for _, name := range regexp.MustCompile("`[^`]+`").FindAllString(strings.Split(row, "|")[1], -1) {
			rows[strings.Trim(name, "`")] = i
		}
	}
	// roomOf is the row of the nearest room that a package is in.
	roomOf := func(path string) (string, int) {
		for name := path; ; {
			if row, ok := rows[name]; ok {
				return name, row
			}
			up := strings.LastIndexByte(name, '/')
			if up < 0 {
				t.Fatalf("%s: no room for %s", architecturePage, path)
			}
			name = name[:up]
		}
	}
	arrows := 0
	// The files themselves, and not what go list says of them: then go test knows when to look again.
	err = filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, entry.Name()) {
			return cmp.Or(err, fs.SkipDir)
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from, row := roomOf(strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../"))
		for _, spec := range file.Imports {
			imported, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours {
				continue
			}
			if to, below := roomOf(imported); to != from && below <= row {
				t.Errorf("%s imports %s, which is not further down in %s", path, imported, architecturePage)
			}
			arrows++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if arrows == 0 {
		t.Error("nothing imports anything")
	}
}
