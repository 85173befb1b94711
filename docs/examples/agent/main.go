// An agent for sandlock-runtime that needs nothing but Go's standard library: it says which programs containers execute, and
// has connections to some ports refused.
//
//	go run ./docs/examples/agent /run/agent.sock 25 465 587
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
)

type message struct {
	Type      string   `json:"type"` // hello, event or changed
	Container string   `json:"container"`
	ID        uint64   `json:"id"`
	Syscall   string   `json:"syscall"`
	Held      bool     `json:"held"`
	GuestPID  int      `json:"guest_pid"`
	Addr      string   `json:"addr"`
	Port      int      `json:"port"`
	Argv      []string `json:"argv"`
}

// serve talks to one container's monitor until the container has ended. When it returns, the container's calls are denied.
func serve(conn net.Conn, refused []string) {
	defer conn.Close()
	fmt.Fprintln(conn, `{"type":"hello","version":1,"categories":["network"],"syscalls":["execve"]}`)
	var container string
	for in, out := json.NewDecoder(conn), json.NewEncoder(conn); ; {
		var m message
		if err := in.Decode(&m); err != nil {
			return
		}
		if m.Type == "hello" {
			container = m.Container
		}
		if m.Type != "event" || !m.Held {
			continue // nobody waits
		}
		answer := map[string]any{"type": "verdict", "id": m.ID, "verdict": "allow"}
		switch {
		case m.Argv != nil:
			fmt.Printf("%s: process %d executes %q\n", container, m.GuestPID, m.Argv)
		case m.Syscall != "bind" && slices.Contains(refused, fmt.Sprint(m.Port)):
			fmt.Printf("%s: refused %s:%d\n", container, m.Addr, m.Port)
			answer["verdict"], answer["errno"] = "deny", "ECONNREFUSED"
		}
		if err := out.Encode(answer); err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn, os.Args[2:])
	}
}
