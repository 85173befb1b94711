package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reap prints "up" and is a good first process from then on: it waits for whatever is left to it.
func reap([]string) (string, error) {
	fmt.Println("up")
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return "", nil
}

// overwriteRuntime watches for a process whose program is not the root's own (a runtime on its way into the container),
// and tries to open that program for writing, as CVE-2019-5736 did. It ends when the file /stop appears, and prints
// "nothing was writable", or what was.
func overwriteRuntime([]string) (string, error) {
	fmt.Println("watching")
	var won []string
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat("/stop"); err == nil {
			break
		}
		links, err := filepath.Glob("/proc/[0-9]*/exe")
		if err != nil {
			return "", err
		}
		for _, link := range links {
			info, err := os.Stat(link)
			if err != nil || os.SameFile(own, info) || insideRoot(info) {
				continue
			}
			if attack := seize(link); attack != "" && !slices.Contains(won, attack) {
				won = append(won, attack)
			}
		}
	}
	if won == nil {
		return "nothing was writable", nil
	}
	return "", errors.New(strings.Join(won, ", "))
}

// seize tries to get a writable handle to what link leads to: at once, and by holding it until it is no longer running.
func seize(link string) string {
	held, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(held)
	name, _ := os.Readlink(link) // only for the message
	for deadline := time.Now().Add(200 * time.Millisecond); time.Now().Before(deadline); {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", held), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return "a writable handle to " + name
		}
		if err != unix.ETXTBSY {
			return ""
		}
	}
	return ""
}

// insideRoot tells whether info is the file of one of the root's own programs.
func insideRoot(info os.FileInfo) bool {
	busybox, err := os.Stat("/bin/busybox")
	return err == nil && os.SameFile(busybox, info)
}
