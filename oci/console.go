package oci

import (
	"os"

	"github.com/sandlock/sandlock-runtime/oci/terminal"
)

// consoleTaker returns what takes the master of a new terminal, where one is wanted: it goes to the console socket where there is one, else it is
// relayed to the terminal that the runtime was called from, and *relay is set.
func consoleTaker(wanted bool, socket string, relay **terminal.Relay) (func(*os.File) error, error) {
	if !wanted {
		return nil, nil
	}
	if socket != "" {
		to, err := terminal.Connect(socket)
		if err != nil {
			return nil, err
		}
		return func(master *os.File) error {
			defer to.Close()
			defer master.Close()
			return to.Send(master, terminal.DefaultName)
		}, nil
	}
	host, err := terminal.OpenHost()
	if err != nil {
		return nil, err
	}
	return func(master *os.File) error {
		*relay, err = terminal.Start(master, host, os.Stdin, os.Stdout)
		return err
	}, nil
}
