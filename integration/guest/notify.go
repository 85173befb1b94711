package main

import (
	"net"
	"os"
	"strings"
)

// notify sends a message of lines to $NOTIFY_SOCKET, as sd_notify(3) does.
func notify(lines []string) (string, error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(strings.Join(lines, "\n")))
	return "sent", err
}
