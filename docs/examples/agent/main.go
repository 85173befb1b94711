// An agent for sandlock-runtime that needs nothing but Go's standard library: it says which programs containers execute, and
// has connections to some ports refused.
//
//	go run ./docs/examples/agent /run/agent.sock 25 465 587
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
)

type event struct {
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

type verdict struct {
	Type    string `json:"type"`
	ID      uint64 `json:"id"`
	Verdict string `json:"verdict"`
	Errno   string `json:"errno,omitempty"`
}

// serve talks to one container's monitor until the container has ended.
func serve(conn net.Conn, refused []string) {
	defer conn.Close()
	fmt.Fprintln(conn, `{"type":"hello","version":1,"categories":["network"],"syscalls":["execve"]}`)
	var container string
	lines, out := bufio.NewReader(conn), json.NewEncoder(conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			log.Print(err)
			return // from now on the container's calls are denied
		}
		if e.Type == "hello" {
			container = e.Container
		}
		if e.Type != "event" || !e.Held {
			continue // nobody waits
		}
		answer := verdict{Type: "verdict", ID: e.ID, Verdict: "allow"}
		switch {
		case e.Syscall == "execve" || e.Syscall == "execveat":
			fmt.Printf("%s: process %d executes %q\n", container, e.GuestPID, e.Argv)
		case slices.Contains(refused, fmt.Sprint(e.Port)):
			fmt.Printf("%s: refused %s:%d\n", container, e.Addr, e.Port)
			answer.Verdict, answer.Errno = "deny", "ECONNREFUSED"
		}
		if err := out.Encode(answer); err != nil {
			return
		}
	}
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: agent SOCKET [PORT...]")
	}
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
