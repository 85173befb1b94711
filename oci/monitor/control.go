package monitor

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// askWait is how long a verb may take to say what it wants once it is connected.
	askWait = 5 * time.Second
	// acceptPause is the pause after a connection could not be accepted.
	acceptPause = 100 * time.Millisecond
)

// Serve answers the control socket until the container's first process has ended. authorise judges who is at the other end of a
// connection; stays tells that this process is to do nothing else for as long, and is to be small.
func (m *Monitor) Serve(socket *net.UnixListener, authorise func(*net.UnixConn) error, stays bool) {
	var talks sync.WaitGroup
	note, wait := func() {}, m.Waited
	if stays {
		if a, err := newActivity(); err == nil {
			defer a.file.Close()
			note, wait = a.note, func() { m.idle(a) }
		} else {
			m.request.Log.Warn(err)
		}
	}
	go func() {
		for {
			conn, err := socket.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				// No descriptors left, for one, which a workload can bring about; there will be some again.
				m.request.Log.Warnf("control socket: %v", err)
				time.Sleep(acceptPause) // nothing tells when
				continue
			}
			talks.Go(func() {
				m.converse(conn, authorise)
				note()
			})
		}
	}()
	wait()
	socket.Close()
	// A start whose program was quick is still to be answered.
	talks.Wait()
}

// converse has one exchange with a verb.
func (m *Monitor) converse(conn *net.UnixConn, authorise func(*net.UnixConn) error) {
	defer conn.Close()
	if err := authorise(conn); err != nil {
		m.request.Log.Warnf("control socket: %v", err)
		return
	}
	// Whoever is silent must not keep the monitor from its end.
	_ = conn.SetReadDeadline(time.Now().Add(askWait))
	var ask request
	file, err := receive(conn, &ask)
	if err != nil {
		m.request.Log.Warn(err)
		return
	}
	answer := reply{}
	result, err := m.carryOut(ask, file)
	if stats := m.Stats(); ask.Verb == verbStats && stats != nil {
		answer.Stats, err = json.Marshal(stats)
	}
	if ports := m.Ports(); ask.Verb == verbPorts && len(ports) > 0 {
		answer.Ports, err = json.Marshal(ports)
	}
	if err != nil {
		answer.Error, result = err.Error(), nil
	}
	if err := send(conn, answer, result); err != nil {
		m.request.Log.Warnf("control socket: %v", err)
	}
}

// carryOut does what a verb asks. It owns file, which may be nil; what it returns stays the monitor's.
func (m *Monitor) carryOut(ask request, file *os.File) (*os.File, error) {
	v := ask.Verb
	if v != verbListen && file != nil {
		file.Close()
		return nil, errors.New("control socket: a descriptor where none belongs")
	}
	switch v {
	case verbStart:
		return nil, m.Start()
	case verbStats, verbPorts:
		return nil, nil
	case verbJoin:
		return m.ruleset, nil
	case verbListen:
		if file == nil {
			return nil, errors.New("control socket: no listener came with the request")
		}
		if !m.request.Plan.Supervised() {
			file.Close()
			return nil, errors.New("control socket: this container has no supervisor")
		}
		return nil, m.supervise(file, ask.PID)
	}
	return nil, errors.New("control socket: unknown verb " + string(v))
}
