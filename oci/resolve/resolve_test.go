package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func addrs(list ...string) (parsed []netip.Addr) {
	for _, a := range list {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

func TestAnswers(t *testing.T) {
	many := make([]netip.Addr, maxAddrs+1)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	for name, row := range map[string]struct {
		found []netip.Addr
		err   error
		want  []netip.Addr
		says  string
	}{
		"several, in order":    {found: addrs("2001:db8::1", "10.0.0.2", "10.0.0.1"), want: addrs("2001:db8::1", "10.0.0.2", "10.0.0.1")},
		"mapped, twice, zoned": {found: addrs("::ffff:10.0.0.1", "10.0.0.1", "fe80::1%1", "fe80::1"), want: addrs("10.0.0.1", "fe80::1")},
		"blocked":              {found: addrs("0.0.0.0"), says: "stands for 0.0.0.0, which is no destination"},
		"blocked IPv6":         {found: addrs("10.0.0.1", "::"), says: "stands for ::, which is no destination"},
		"none":                 {says: "has no address"},
		"too many":             {found: many, says: "has more than 128 addresses"},
		"as many as may be":    {found: many[:maxAddrs], want: many[:maxAddrs]},
		"no such host":         {err: &net.DNSError{Err: "no such host", Name: "x", Server: "192.0.2.1:53", IsNotFound: true}, says: "no such host, says 192.0.2.1:53"},
		"silence":              {err: &net.DNSError{Err: "i/o timeout", Name: "x", Server: "192.0.2.1:53", IsTimeout: true}, says: "no answer in time from 192.0.2.1:53"},
		"no server at all":     {err: &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}, says: "no such host"},
		"something else":       {err: errors.New("broken"), says: "broken"},
	} {
		got := newAnswer(row.found, row.err)
		if row.says == "" && (got.Err != nil || !reflect.DeepEqual(got.Addrs, row.want)) {
			t.Errorf("%s: %v", name, got)
		}
		if row.says != "" && (got.Err == nil || got.Err.Error() != row.says || got.Addrs != nil) {
			t.Errorf("%s: %v, want %s", name, got, row.says)
		}
	}
}

// All names are asked for, a bounded number at a time, and what one gets does not depend on the others.
func TestAll(t *testing.T) {
	var list []string
	for i := range 100 {
		list = append(list, fmt.Sprintf("n%d", i))
	}
	var now, most atomic.Int32
	full := make(chan struct{})
	got := all(t.Context(), list, time.Minute, func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
			if n == atOnce {
				close(full)
			}
		}
		<-full
		defer now.Add(-1)
		if network != "ip" || strings.HasSuffix(host, "7") {
			return nil, errors.New("broken")
		}
		return addrs("10.0.0.1"), nil
	})
	for _, name := range list {
		if answer, asked := got[name]; !asked || (answer.Err != nil) != strings.HasSuffix(name, "7") {
			t.Errorf("%s: %v", name, answer)
		}
	}
	if most.Load() > atOnce {
		t.Errorf("%d at once", most.Load())
	}
	if Names(t.Context(), nil) != nil {
		t.Error("no name has an answer")
	}
}

// Nobody waits for a resolver for longer than the limit.
func TestLimit(t *testing.T) {
	got := all(t.Context(), []string{"slow"}, time.Millisecond, func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), IsTimeout: true}
	})
	if err := got["slow"].Err; err == nil || err.Error() != "no answer within 1ms" {
		t.Error(err)
	}
}

// The host's own /etc/hosts counts. What DNS says is tested with a server, in the integration tests.
func TestHostsFile(t *testing.T) {
	if answer := Names(t.Context(), []string{"localhost"})["localhost"]; answer.Err != nil || !answer.Addrs[0].IsLoopback() {
		t.Error(answer)
	}
}
