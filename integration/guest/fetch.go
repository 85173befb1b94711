package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// fetch gets a page as a static Go program does, which resolves names by itself, without libc. Its arguments are: the address of a
// name server, and a URL.
func fetch(args []string) (string, error) {
	if len(args) != 2 {
		return "", fmt.Errorf("fetch: want RESOLVER URL, got %q", args)
	}
	const patience = 5 * time.Second
	dialer := &net.Dialer{Timeout: patience, Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, args[0])
		},
	}}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext}}
	answer, err := client.Get(args[1])
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return strings.TrimSpace(string(text)), err
}
