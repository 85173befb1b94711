package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock-runtime/seccompnotif"
)

const (
	// MaxLine is the most bytes that a line of the agent's may have.
	MaxLine = 64 << 10
	// HelloTimeout is how long the agent may take to answer the greeting.
	HelloTimeout = 5 * time.Second
	// MaxChanges is how many changes may wait for their answer.
	MaxChanges = 16
	// maxExpired is how many ids of events that nobody waits for any more are kept: a verdict that comes late is no offence.
	maxExpired = 4096
)

// ErrGone is what calls get that would have been judged by an agent which is no longer there.
var ErrGone = errors.New("the agent is gone")

// Config says how to reach an agent.
type Config struct {
	Path      string // of the socket
	Container string // what the agent is told it judges
	// Trust judges who listens at the other end.
	Trust func(*net.UnixConn) error
}

// Conn is the conversation with one agent. It is a [seccompnotif.Subscriber]. Its methods are safe for concurrent use.
type Conn struct {
	conn      *net.UnixConn
	lines     *bufio.Reader
	wanted    []string
	argv      bool
	denyPaths bool
	out       chan []byte   // lines, to the writer
	gone      chan struct{} // the conversation is over

	mu      sync.Mutex
	err     error // why it is over
	pending map[uint64]chan seccompnotif.Verdict
	expired map[uint64]struct{}
	order   []uint64 // of expired, the oldest first
}

// Dial connects to an agent and agrees with it on what it is asked about. Nothing the agent says later is read before
// [Conn.Start].
func Dial(config Config) (*Conn, error) {
	conn, err := connect(config.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.Path, err)
	}
	c := &Conn{
		conn: conn, lines: bufio.NewReaderSize(conn, MaxLine), out: make(chan []byte), gone: make(chan struct{}),
		pending: map[uint64]chan seccompnotif.Verdict{}, expired: map[uint64]struct{}{},
	}
	if err := c.greet(config); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", config.Path, err)
	}
	return c, nil
}

// connect connects to the socket at a path of any length: an address has room for 107 bytes (sun_path, unix(7)).
func connect(path string) (*net.UnixConn, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	conn, err := net.DialTimeout("unix", "/proc/self/fd/"+strconv.Itoa(fd), HelloTimeout)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without our way to it
		}
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

func (c *Conn) greet(config Config) error {
	if config.Trust != nil {
		if err := config.Trust(c.conn); err != nil {
			return err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(HelloTimeout)); err != nil {
		return err
	}
	line, err := encode(greeting{Type: typeHello, Version: Version, Container: config.Container})
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(line); err != nil {
		return fmt.Errorf("hello: %w", bare(err))
	}
	if line, err = c.read(); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	hello, err := parseHello(line)
	if err != nil {
		return err
	}
	if c.wanted, err = hello.wanted(); err != nil {
		return err
	}
	c.argv = hello.Argv == nil || *hello.Argv
	c.denyPaths = hello.Categories == nil && hello.Syscalls == nil
	if hello.DenyPaths != nil {
		c.denyPaths = *hello.DenyPaths
	}
	return c.conn.SetDeadline(time.Time{})
}

// parseHello reads the agent's hello.
func parseHello(line []byte) (hello Hello, err error) {
	// The version comes first: a later one may have other members.
	var version struct {
		Type    string `json:"type"`
		Version int    `json:"version"`
	}
	if err := decodeLoosely(line, &version); err != nil {
		return hello, fmt.Errorf("hello: %w", err)
	}
	switch {
	case version.Type != typeHello:
		return hello, fmt.Errorf("the agent begins with %q, not with hello", version.Type)
	case version.Version != Version:
		return hello, fmt.Errorf("the agent speaks version %d of the protocol, this is version %d", version.Version, Version)
	}
	if err := decode(line, &hello); err != nil {
		return hello, fmt.Errorf("hello: %w", err)
	}
	return hello, nil
}

// read returns the next line, which holds until the next one is read.
func (c *Conn) read() ([]byte, error) {
	line, err := c.lines.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("a line of more than %d bytes", MaxLine)
	case errors.Is(err, io.EOF):
		return nil, errors.New("the agent has closed the connection")
	}
	return line, bare(err)
}

// bare takes addresses off a network error.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Syscalls returns the names of the system calls that the agent wants events of.
func (c *Conn) Syscalls() []string { return c.wanted }

// DenyPaths tells whether it may want to deny paths.
func (c *Conn) DenyPaths() bool { return c.denyPaths }

// Argv tells whether it wants the arguments of programs that are executed.
func (c *Conn) Argv() bool { return c.argv }

// Start begins to listen to the agent. change carries out the changes that it asks for, one at a time. ended, if not nil, is
// called once with the reason when the conversation is over, unless that was [Conn.Close].
func (c *Conn) Start(change func(Change) error, ended func(error)) {
	changes := make(chan Change, MaxChanges)
	go c.write()
	go c.change(changes, change)
	go func() {
		err := c.listen(changes)
		if c.end(err) && ended != nil {
			ended(err)
		}
	}()
}

// Close ends the conversation.
func (c *Conn) Close() { c.end(ErrGone) }

// end returns true to the one who has ended the conversation.
func (c *Conn) end(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	close(c.gone)
	c.conn.Close()
	return true
}

// listen reads what the agent says, until it says something wrong or nothing any more.
func (c *Conn) listen(changes chan<- Change) error {
	for {
		line, err := c.read()
		if err != nil {
			return err
		}
		kind, err := typeOf(line)
		if err != nil {
			return fmt.Errorf("the agent says what is no message: %w", err)
		}
		switch kind {
		case typeVerdict:
			err = c.take(line)
		case typeChange:
			var change Change
			if err = decode(line, &change); err == nil {
				err = change.check()
			}
			if err != nil {
				break
			}
			select {
			case changes <- change:
			default:
				err = fmt.Errorf("the agent asks for more than %d changes at a time", MaxChanges)
			}
		default:
			err = fmt.Errorf("the agent says %q, which is no type of message", kind)
		}
		if err != nil {
			return err
		}
	}
}

// take gives a verdict to the one who waits for it.
func (c *Conn) take(line []byte) error {
	var v verdict
	if err := decode(line, &v); err != nil {
		return fmt.Errorf("verdict: %w", err)
	}
	parsed, err := v.parse()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting, ok := c.pending[v.ID]; ok {
		delete(c.pending, v.ID)
		waiting <- parsed // there is room
		return nil
	}
	if _, late := c.expired[v.ID]; late {
		delete(c.expired, v.ID)
		return nil
	}
	return fmt.Errorf("verdict for %d, which is no event that waits for one", v.ID)
}

// Judge asks the agent.
func (c *Conn) Judge(ctx context.Context, e seccompnotif.Event) (seccompnotif.Verdict, error) {
	line, err := encodeEvent(e)
	if err != nil {
		return seccompnotif.Verdict{}, err
	}
	answer := make(chan seccompnotif.Verdict, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return seccompnotif.Verdict{}, ErrGone
	}
	c.pending[e.ID] = answer
	c.mu.Unlock()
	select {
	case c.out <- line:
	case <-ctx.Done():
		c.forget(e.ID, false)
		return seccompnotif.Verdict{}, errors.New("the agent does not read")
	case <-c.gone:
		return seccompnotif.Verdict{}, ErrGone
	}
	select {
	case v := <-answer:
		return v, nil
	case <-ctx.Done():
		c.forget(e.ID, true)
		return seccompnotif.Verdict{}, errors.New("no verdict in time")
	case <-c.gone:
		return seccompnotif.Verdict{}, ErrGone
	}
}

// forget has nobody wait for a verdict any more. told says that the agent may still give it.
func (c *Conn) forget(id uint64, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pending[id]; !ok {
		return
	}
	delete(c.pending, id)
	if !told {
		return
	}
	if len(c.order) == maxExpired {
		delete(c.expired, c.order[0])
		c.order = append(c.order[:0], c.order[1:]...)
	}
	c.expired[id] = struct{}{}
	c.order = append(c.order, id)
}

// Report tells the agent.
func (c *Conn) Report(e seccompnotif.Event) {
	if line, err := encodeEvent(e); err == nil { // no event is such that it could not be
		c.say(line)
	}
}

// say sends a line, unless the conversation is over.
func (c *Conn) say(line []byte) {
	select {
	case c.out <- line:
	case <-c.gone:
	}
}

// write is the one that writes: who has to say something must be able to give up, and half a line cannot be taken back.
func (c *Conn) write() {
	for {
		select {
		case line := <-c.out:
			if _, err := c.conn.Write(line); err != nil {
				// The reader is told the same, and why.
				_ = c.conn.CloseRead()
				return
			}
		case <-c.gone:
			return
		}
	}
}

// change carries out changes, in order.
func (c *Conn) change(changes <-chan Change, do func(Change) error) {
	for {
		select {
		case change := <-changes:
			answer := changed{Type: typeChanged, ID: change.ID}
			if err := do(change); err != nil {
				answer.Error = err.Error()
			}
			if line, err := encode(answer); err == nil {
				c.say(line)
			}
		case <-c.gone:
			return
		}
	}
}
