// Sandlock-runtime is the command: it turns a command line into one call of package oci, and its outcome into an exit code.
//
// Flags, output and exit codes are those of runc 1.5, so that whatever drives runc can drive it. An error is one line on stderr and, with
// --log, one entry in the log. The exit code is 0, or 1 after an error, 3 for a verb that there is not; run and exec exit like the process that they ran,
// and exec with 255 if that could not be run.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/sandlock/sandlock-runtime/oci"
)

// name is what the program calls itself.
const name = "sandlock-runtime"

// Exit codes of errors.
const (
	exitFailure     = 1
	exitUnknownVerb = 3   // as runc's parser has it
	exitExecFailure = 255 // exec: its process could not be run
)

func main() {
	growStack(false)
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(os.Args))
}

// growStack has the stack of the calling goroutine grow to 64 KiB at once, while there is next to nothing on it. Otherwise it would double four times on the way into a verb, and
// each time Go looks through all the frames that are there, in tables that nobody has touched before: a thirtieth of what a short verb takes. use is false; that
// the compiler does not know it gives this function its frame.
//
//go:noinline
func growStack(use bool) {
	if use {
		var room [40 << 10]byte
		println(room[len(os.Args)])
	}
}

// program is one call of the command.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	// runtime is there when the global flags have been read.
	runtime *oci.Runtime
}

// exit is how an action says with which code the program is to exit, where that is not 0 or exitFailure.
type exit struct {
	code int
	err  error // nil: nothing has gone wrong
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// run carries out a command line, args[0] being the program's name, and returns the exit code.
func (p *program) run(args []string) int {
	err := p.app(args).Run(arrange(args))
	if err == nil {
		return 0
	}
	code := exitFailure
	var wanted *exit
	if errors.As(err, &wanted) {
		code = wanted.code
		if wanted.err == nil {
			return code
		}
	}
	p.report(err)
	return code
}

// report tells of an error: in the log, and on stderr if that is not where the log goes.
func (p *program) report(err error) {
	message := oneLine(err.Error())
	if p.runtime == nil {
		// The global flags are wrong, so there is no log.
		log := logrus.New()
		log.SetOutput(p.stderr)
		log.Error(message)
		return
	}
	p.runtime.Log.Error(message)
	if p.runtime.LogFile {
		fmt.Fprintln(p.stderr, message)
	}
}

// oneLine makes one line of several: what reads the log and stderr takes a line for an error.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
