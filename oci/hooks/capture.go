package hooks

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// captured is how many bytes of each of a hook's outputs are kept for its error message, from the start.
const captured = 4 << 10

// capture keeps the beginning of what comes through a pipe, and swallows the rest, so that the writer is not held up.
type capture struct {
	read, write *os.File
	done        chan struct{}
	kept        []byte
	more        int64 // bytes not kept
}

func newCapture() (*capture, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &capture{read: r, write: w}, nil
}

// started is to be called when the hook has its own duplicate of the write end. It begins to read.
func (c *capture) started() {
	_ = c.write.Close() // nothing was written
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		// A read ends with the last writer, at the deadline or when the capture is closed: what has come by then is what there is.
		c.kept, _ = io.ReadAll(io.LimitReader(c.read, captured))
		c.more, _ = io.Copy(io.Discard, c.read)
	}()
}

// text is what was kept, fit for one line of a log. What is not there by the deadline is given up.
func (c *capture) text(deadline time.Time) string {
	_ = c.read.SetReadDeadline(deadline) // it fails when the reading is over
	<-c.done
	text := oneLine(string(c.kept))
	if c.more > 0 {
		text += fmt.Sprintf(" [and %d bytes more]", c.more)
	}
	return text
}

func (c *capture) close() {
	_ = c.write.Close() // by now it may be closed
	_ = c.read.Close()  // a pipe's end that was read from
	if c.done != nil {
		<-c.done
	}
}

// oneLine escapes line ends and all that a terminal could take for a command. The output may be the container's, which is not
// trusted.
func oneLine(s string) string {
	quoted := strconv.Quote(strings.TrimRight(s, "\n"))
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
