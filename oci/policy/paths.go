package policy

import (
	"slices"
	"strings"
)

// covers reports whether path is dir or lies beneath it. Both are clean.
func covers(dir, path string) bool {
	if dir == "/" || dir == path {
		return true
	}
	return strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// anyCovers reports whether a path lies beneath one of the directories.
func anyCovers(dirs []string, path string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return covers(dir, path) })
}

// intersectPaths returns the set of paths that lie beneath both lists: of every
// pair of which one covers the other, the deeper.
func intersectPaths(a, b []string) []string {
	var both []string
	for _, path := range a {
		if anyCovers(b, path) {
			both = append(both, path)
		}
	}
	for _, path := range b {
		if anyCovers(a, path) {
			both = append(both, path)
		}
	}
	return normalizePaths(both)
}

// unitePaths returns the set of paths that lie beneath either list.
func unitePaths(a, b []string) []string {
	return normalizePaths(slices.Concat(a, b))
}

// normalizePaths sorts a list in place and drops what another element covers.
// The result is not nil.
func normalizePaths(list []string) []string {
	slices.Sort(list)
	kept := list[:0]
	for _, path := range list {
		if !anyCovers(kept, path) {
			kept = append(kept, path)
		}
	}
	if kept == nil {
		kept = []string{}
	}
	return kept
}
