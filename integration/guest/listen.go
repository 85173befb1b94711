package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// listen binds a TCP socket to ADDRESS:PORT, or not at all where the argument is "unbound", has it listen, and prints "listening". With "udp" before the
// address a UDP socket is bound, and "bound" printed; with "unix" a Unix socket listens at a path, and who a client finds there is printed.
func listen(args []string) (string, error) {
	if len(args) == 1 && args[0] == "unbound" {
		return finishListen(unix.AF_INET, nil)
	}
	if len(args) == 2 && args[0] == "unix" {
		return listenUnix(args[1])
	}
	kind := unix.SOCK_STREAM
	if len(args) == 2 && args[0] == "udp" {
		kind, args = unix.SOCK_DGRAM, args[1:]
	}
	if len(args) != 1 {
		return "", fmt.Errorf("listen: want unbound, ADDRESS:PORT or udp ADDRESS:PORT, got %q", args)
	}
	at, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return "", err
	}
	family, address := sockaddr(at)
	if kind == unix.SOCK_DGRAM {
		fd, err := unix.Socket(family, kind, 0)
		if err != nil {
			return "", err
		}
		return "bound", unix.Bind(fd, address)
	}
	return finishListen(family, address)
}

func finishListen(family int, address unix.Sockaddr) (string, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	if address != nil {
		if err := unix.Bind(fd, address); err != nil {
			return "", err
		}
	}
	return "listening", unix.Listen(fd, 1)
}

// listenUnix prints the user that a client of a listening Unix socket finds at the other end.
func listenUnix(path string) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		return "", err
	}
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Connect(client, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		return "", err
	}
	peer, err := unix.GetsockoptUcred(client, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("listening as %d", peer.Uid), nil
}
