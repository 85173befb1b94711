package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// specVersion is the version of the specification that the lines of the rows are from.
const specVersion = "1.3.0"

// requirement is one demand of the specification. It has either a test or a reason why it needs none.
type requirement struct {
	lines string // where the specification says it, as "12" or "12,15"
	says  string // the demand in short
	test  func(x *trial)
	// skip says why nothing is tested.
	skip string
	// since is the version of the specification that brought the demand, if it is newer than 1.0.2: what a runtime for an
	// older specification cannot know is not held against it.
	since string
	// host says what this machine lacks for the test, or "".
	host func() string
}

// section is the rows of one section of one document.
type section struct {
	document, title string
	rows            []requirement
}

// sections are the whole table, in the order of the documents.
func sections() []section {
	return slices.Concat([]section{bundleFormat()}, runtimeSections(), configSections(), linuxSections(), []section{devLinks()}, featureSections())
}

// at are the lines of the row.
func (q requirement) at() []int {
	var lines []int
	for field := range strings.SplitSeq(q.lines, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			panic(fmt.Sprintf("row %q: line %q", q.says, field))
		}
		lines = append(lines, n)
	}
	return lines
}

// Reasons that several rows have.
const (
	otherPlatform = "for another platform than Linux"
	bindsAuthor   = "binds who writes config.json: to a runtime, a number that is left out is 0, which is valid"
)

func skipped(lines, says, why string) requirement {
	return requirement{lines: lines, says: says, skip: why}
}
