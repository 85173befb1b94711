package main

import "github.com/urfave/cli/v2"

// verb is one verb of the command.
type verb struct {
	name  string
	build func(*program) *cli.Command
	// ownArgs: the verb's arguments may have flags that are not the verb's.
	ownArgs bool
}

// verbs returns the verbs in the order that help shows them in.
func verbs() []verb {
	return []verb{
		{"check", (*program).check, false},
		{"checkpoint", (*program).checkpoint, false},
		{"create", (*program).create, false},
		{"debug", (*program).debug, true},
		{"delete", (*program).delete, false},
		{"events", (*program).events, false},
		{"exec", (*program).exec, true},
		{"features", (*program).features, false},
		{"inspect", (*program).inspect, false},
		{"install", (*program).install, false},
		{"kill", (*program).kill, false},
		{"list", (*program).list, false},
		{"pause", (*program).pause, false},
		{"ps", (*program).ps, true},
		{"restore", (*program).restore, false},
		{"resume", (*program).resume, false},
		{"run", (*program).runContainer, false},
		{"spec", (*program).spec, false},
		{"start", (*program).start, false},
		{"state", (*program).state, false},
		{"uninstall", (*program).uninstall, false},
		{"update", (*program).update, false},
	}
}

func findVerb(name string) *verb {
	for _, v := range verbs() {
		if v.name == name {
			return &v
		}
	}
	return nil
}

// commands are the commands that a call of the named verb needs: itself, or all if there is no such verb.
func (p *program) commands(name string) []*cli.Command {
	if v := findVerb(name); v != nil {
		return []*cli.Command{p.command(*v)}
	}
	var all []*cli.Command
	for _, v := range verbs() {
		all = append(all, p.command(v))
	}
	return all
}

func (p *program) command(v verb) *cli.Command {
	c := v.build(p)
	c.Name = v.name
	// Otherwise no container could be called "help".
	c.HideHelpCommand = true
	c.OnUsageError = usageError
	return c
}

// idUsage is the argument of most verbs.
const idUsage = "<container-id>"
