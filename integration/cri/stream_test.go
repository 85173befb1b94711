package cri

import (
	"bytes"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (c *container) streamExec(change func(*cri.ExecRequest), script string) *websocket.Conn {
	c.t.Helper()
	request := &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"/bin/sh", "-c", script}, Stdin: true, Stdout: true, Stderr: true}
	if change != nil {
		change(request)
	}
	r, err := kube.Exec(within(c.t), request)
	if err != nil {
		c.t.Fatal(err)
	}
	return stream(c.t, r.Url)
}

func (c *container) attach(tty bool) *websocket.Conn {
	c.t.Helper()
	r, err := kube.Attach(within(c.t), &cri.AttachRequest{ContainerId: c.id, Stdin: true, Stdout: true, Stderr: !tty, Tty: tty})
	if err != nil {
		c.t.Fatal(err)
	}
	return stream(c.t, r.Url)
}

// forward is a connection to a port of the pod's, from the node.
func (p *pod) forward(port int) *websocket.Conn {
	p.t.Helper()
	r, err := kube.PortForward(within(p.t), &cri.PortForwardRequest{PodSandboxId: p.id, Port: []int32{int32(port)}})
	if err != nil {
		p.t.Fatal(err)
	}
	to, err := url.Parse(r.Url)
	if err != nil {
		p.t.Fatal(err)
	}
	query := to.Query()
	query.Set("port", strconv.Itoa(port))
	to.RawQuery = query.Encode()
	return stream(p.t, to.String())
}

func TestStreamOfExec(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		ws := run(t, nil).sleeper("c", nil).streamExec(nil, "read line; echo got $line; exit 5")
		say(t, ws, channelStdin, "a line\n")
		heard := hear(t, ws, channelError, "ExitCode")
		if heard[channelStdout] != "got a line\n" || !strings.Contains(heard[channelError], `"message":"5"`) {
			t.Errorf("%q", heard)
		}
	})
}

func withTerminal(r *cri.ExecRequest) { r.Tty, r.Stderr = true, false }

func TestStreamOfExecWithTerminal(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).sleeper("c", nil)
		if heard := hear(t, c.streamExec(withTerminal, "tty; stat -c %u $(tty)"), channelError, "Success"); heard[channelStdout] != "/dev/pts/0\r\n0\r\n" {
			t.Errorf("%q", heard)
		}
	})
}

// tellsSize prints the terminal's size whenever it changes.
const tellsSize = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"

func TestResizeOfExecsTerminal(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		ws := run(t, nil).sleeper("c", nil).streamExec(withTerminal, tellsSize)
		hear(t, ws, channelStdout, "ready")
		say(t, ws, channelResize, `{"Width": 123, "Height": 41}`)
		hear(t, ws, channelStdout, "41 123\r\n")
		say(t, ws, channelStdin, "\x03") // the terminal makes it a signal
		if heard := hear(t, ws, channelError, "ExitCode"); !strings.Contains(heard[channelError], `"message":"130"`) {
			t.Errorf("%q", heard)
		}
	})
}

func TestAttach(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).create("reader", func(c *cri.ContainerConfig) { c.Stdin = true }, "/bin/sh", "-c", "while read line; do echo read $line; echo err $line >&2; done").start()
		ws := c.attach(false)
		say(t, ws, channelStdin, "this\n")
		if heard := hear(t, ws, channelStdout, "read this\n"); heard[channelStdout] != "read this\n" {
			t.Errorf("%q", heard)
		}
		// Another one may come later, and the log has it all.
		ws.Close()
		again := c.attach(false)
		say(t, again, channelStdin, "that\n")
		hear(t, again, channelStderr, "err that\n")
		for _, want := range []string{" stdout F read this\n", " stderr F err that\n"} {
			waitForText(t, c.log, want)
		}
	})
}

func TestResizeOfAnAttachedTerminal(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		c := run(t, nil).create("c", func(c *cri.ContainerConfig) { c.Stdin, c.Tty = true, true }, "/bin/sh", "-c", tellsSize).start()
		waitForText(t, c.log, "ready")
		ws := c.attach(true)
		for _, size := range []struct{ sent, want string }{{`{"Width": 123, "Height": 41}`, "41 123\r\n"}, {`{"Width": 80, "Height": 24}`, "24 80\r\n"}} {
			say(t, ws, channelResize, size.sent)
			hear(t, ws, channelStdout, size.want)
		}
		say(t, ws, channelStdin, "\x03")
		if s := c.wait(); s.ExitCode != 130 {
			t.Errorf("%v", s)
		}
	})
}

// Channels of port forwarding.
const (
	forwardedData  = 0
	forwardedError = 1
)

func TestPortForward(t *testing.T) {
	everyPod(t, func(t *testing.T, run podMaker) {
		p := run(t, nil)
		server := p.create("server", nil, "/bin/nc", "-ll", "-p", "8088", "-e", "/bin/cat").start()
		server.says("until netstat -ltn | grep -q :8088; do sleep 0.05; done", "")
		t.Run("there and back", func(t *testing.T) {
			ws := p.forward(8088)
			sent := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
			go func() {
				for part := range slices.Chunk(sent, 32<<10) {
					if websocket.Message.Send(ws, append([]byte{forwardedData}, part...)) != nil {
						return // the reader finds out
					}
				}
			}()
			var got []byte
			const portNumber = 2 // comes first, as two bytes
			for len(got) < portNumber+len(sent) {
				var frame []byte
				if err := websocket.Message.Receive(ws, &frame); err != nil {
					t.Fatalf("after %d bytes: %v", len(got), err)
				}
				if len(frame) > 0 && frame[0] == forwardedData {
					got = append(got, frame[1:]...)
				}
			}
			if !bytes.Equal(got[portNumber:], sent) {
				t.Error("what comes back is not what was sent")
			}
		})
		t.Run("nobody listens", func(t *testing.T) {
			if heard := hear(t, p.forward(8099), forwardedError, "refused"); !strings.Contains(heard[forwardedError], "connection refused") {
				t.Errorf("%q", heard)
			}
		})
	})
}
