package cri

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// Channels of the kubelet's streaming protocol, v4.channel.k8s.io.
const (
	channelStdin  = 0
	channelStdout = 1
	channelStderr = 2
	channelError  = 3
	channelResize = 4
)

// stream is a connection to containerd's streaming server. It is in containerd's network namespace, as the kubelet is on a node.
func stream(t *testing.T, address string) *websocket.Conn {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := daemon.Dial("tcp", to.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		t.Fatal(err)
	}
	config, err := websocket.NewConfig("ws"+strings.TrimPrefix(address, "http"), "http://kubelet")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"v4.channel.k8s.io"}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

// say writes to a channel.
func say(t *testing.T, ws *websocket.Conn, channel byte, text string) {
	t.Helper()
	if err := websocket.Message.Send(ws, append([]byte{channel}, text...)); err != nil {
		t.Fatal(err)
	}
}

// hear reads until a channel has said what is wanted, or to the end; it returns what the channels have said.
func hear(t *testing.T, ws *websocket.Conn, channel byte, want string) map[byte]string {
	t.Helper()
	heard := map[byte]*bytes.Buffer{}
	text := func() map[byte]string {
		all := map[byte]string{}
		for c, b := range heard {
			all[c] = b.String()
		}
		return all
	}
	for {
		var frame []byte
		err := websocket.Message.Receive(ws, &frame)
		if errors.Is(err, io.EOF) {
			return text()
		}
		if err != nil {
			t.Fatalf("%v; so far %q", err, text())
		}
		if len(frame) == 0 {
			continue
		}
		if heard[frame[0]] == nil {
			heard[frame[0]] = &bytes.Buffer{}
		}
		heard[frame[0]].Write(frame[1:])
		if b := heard[channel]; want != "" && b != nil && strings.Contains(b.String(), want) {
			return text()
		}
	}
}
