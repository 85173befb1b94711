package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// verbOf is the verb that a command line calls, "" if none. Package caller finds it by the same rules, before Go runs.
func verbOf(args []string) string {
	if i := verbIndex(args); i < len(args) {
		return args[i]
	}
	return ""
}

// verbIndex is the index of the verb in args, len(args) if there is none.
func verbIndex(args []string) int {
	takesValue := valueFlags(globalFlags())
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return i + 1
		case !strings.HasPrefix(args[i], "-"):
			return i
		case !strings.Contains(args[i], "=") && slices.Contains(takesValue, strings.TrimLeft(args[i], "-")):
			i++
		}
	}
	return len(args)
}

// valueFlags are the names of those flags that are followed by a value.
func valueFlags(flags []cli.Flag) []string {
	var names []string
	for _, flag := range flags {
		switch f := flag.(type) {
		case *cli.BoolFlag:
		case *cli.StringFlag: // as most are; Names takes its time, with regular expressions
			names = append(append(names, f.Name), f.Aliases...)
		default:
			names = append(names, f.Names()...)
		}
	}
	return names
}

// arrange puts the flags of a verb before its other arguments, as the parser wants them: `delete ID --force` is as good as
// `delete --force ID`. Verbs whose arguments have flags of their own are left alone.
func arrange(args []string) []string {
	at := verbIndex(args)
	if at >= len(args) {
		return args
	}
	verb := findVerb(args[at])
	if verb == nil || verb.ownArgs {
		return args
	}
	takesValue := valueFlags(verb.build(nil).Flags)
	var flags, others []string
	rest := args[at+1:]
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		switch {
		case arg == "--":
			others = append(others, rest[i:]...)
			i = len(rest)
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			others = append(others, arg)
		default:
			flags = append(flags, arg)
			if !strings.Contains(arg, "=") && slices.Contains(takesValue, strings.TrimLeft(arg, "-")) && i+1 < len(rest) {
				i++
				flags = append(flags, rest[i])
			}
		}
	}
	return slices.Concat(args[:at+1], flags, others)
}

// count checks the number of a verb's arguments; most below 0 is no upper bound.
func count(c *cli.Context, least, most int) error {
	n, verb := c.NArg(), c.Command.Name
	switch {
	case least == most && n != least:
		return fmt.Errorf("%s: %q requires exactly %d argument(s)", name, verb, least)
	case n < least:
		return fmt.Errorf("%s: %q requires a minimum of %d argument(s)", name, verb, least)
	case most >= 0 && n > most:
		return fmt.Errorf("%s: %q requires a maximum of %d argument(s)", name, verb, most)
	}
	return nil
}
