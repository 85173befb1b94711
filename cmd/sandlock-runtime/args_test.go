package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock-runtime/oci/caller"
)

// The constructor in package caller finds the verb before the command's own parser does. If it took a flag's value for the verb, or a verb
// for a value, the wrong processes would be split.
func TestTheCallerKnowsTheGlobalFlagsWithAValue(t *testing.T) {
	ours, theirs := valueFlags(globalFlags()), caller.OptionsWithValue()
	slices.Sort(ours)
	slices.Sort(theirs)
	if !slices.Equal(ours, theirs) {
		t.Errorf("the command's global flags with a value are %q, package caller knows %q", ours, theirs)
	}
}

func TestVerbOf(t *testing.T) {
	for line, want := range map[string]string{
		"":                               "",
		"run x":                          "run",
		"--root /x run y":                "run",
		"--root=/x run y":                "run",
		"-root /x --debug run y":         "run",
		"--log run --log-format state y": "y",
		"--systemd-cgroup create x":      "create",
		"--criu criu create x":           "create",
		"-- run":                         "run",
		"--help":                         "",
		"--root":                         "",
		"--":                             "",
	} {
		if got := verbOf(append([]string{name}, strings.Fields(line)...)); got != want {
			t.Errorf("%q: verb %q, want %q", line, got, want)
		}
	}
}

func TestArrange(t *testing.T) {
	for line, want := range map[string]string{
		"delete ID --force":                  "delete --force ID",
		"delete --force ID":                  "delete --force ID",
		"--root /x delete ID -f":             "--root /x delete -f ID",
		"kill ID KILL --all":                 "kill --all ID KILL",
		"update ID --memory-swap -1 -r -":    "update --memory-swap -1 -r - ID",
		"update ID --memory=5m":              "update --memory=5m ID",
		"run ID --bundle /b --detach":        "run --bundle /b --detach ID",
		"run --pid-file":                     "run --pid-file",
		"delete -- -odd --force":             "delete -- -odd --force",
		"exec -t ID ls --all -l":             "exec -t ID ls --all -l",
		"ps ID -o pid":                       "ps ID -o pid",
		"nonsense ID --force":                "nonsense ID --force",
		"checkpoint ID --image-path /images": "checkpoint --image-path ID /images",
		"--debug":                            "--debug",
	} {
		got := arrange(append([]string{name}, strings.Fields(line)...))
		if text := strings.Join(got[1:], " "); text != want {
			t.Errorf("%q: %q, want %q", line, text, want)
		}
	}
}
