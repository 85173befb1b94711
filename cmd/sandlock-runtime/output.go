package main

import (
	"encoding/json"
	"errors"

	"github.com/urfave/cli/v2"
)

// printJSON prints a value and a newline, indented unless indent is empty.
func (p *program) printJSON(value any, indent string) error {
	encoder := json.NewEncoder(p.stdout)
	encoder.SetIndent("", indent)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// The values of --format.
const (
	table  = "table"
	text   = "text"
	asJSON = "json"
)

// formatFlag is --format with its default, which is the other one than json.
func formatFlag(standard string) cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: standard, Usage: "select one of: " + standard + " or json"}
}

// wantsJSON reads --format.
func wantsJSON(c *cli.Context, standard string) (bool, error) {
	switch c.String("format") {
	case standard:
		return false, nil
	case asJSON:
		return true, nil
	}
	return false, errors.New("invalid format option")
}
