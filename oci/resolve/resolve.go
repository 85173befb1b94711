// Package resolve finds out what host names stand for, as the host itself would: by its /etc/hosts and the servers of its
// /etc/resolv.conf. It asks once, in bounded time, and changes nothing; what it finds is a value that a plan is made of.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds.
const (
	// Limit is how long all names together may take.
	Limit = 10 * time.Second
	// MaxNames is how many names one container may have.
	MaxNames = 256
	// maxAddrs is how many addresses one name may have.
	maxAddrs = 128
	// atOnce is how many names are asked for at the same time.
	atOnce = 16
)

// Answer is what a name stands for: addresses without duplicates, in the order in which the host would try them, or why there
// are none.
type Answer struct {
	Addrs []netip.Addr
	Err   error
}

// lookup is [net.Resolver.LookupNetIP].
type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Names asks for each of the names.
func Names(ctx context.Context, list []string) map[string]Answer {
	if len(list) == 0 {
		return nil
	}
	// Go's own resolver: the executable is static, and loads no modules of the C library's.
	resolver := net.Resolver{PreferGo: true}
	return all(ctx, list, Limit, resolver.LookupNetIP)
}

func all(ctx context.Context, list []string, limit time.Duration, ask lookup) map[string]Answer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := make(map[string]Answer, len(list))
	var mu sync.Mutex
	var group sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for _, name := range list {
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			addrs, err := ask(ctx, "ip", name)
			answer := newAnswer(addrs, err)
			if err != nil && ctx.Err() != nil {
				answer.Err = fmt.Errorf("no answer within %v", limit)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[name] = answer
		})
	}
	group.Wait()
	return answers
}

// newAnswer makes an answer of what the resolver said.
func newAnswer(found []netip.Addr, err error) Answer {
	if err != nil {
		return Answer{Err: reason(err)}
	}
	var addrs []netip.Addr
	for _, addr := range found {
		addr = addr.Unmap().WithZone("")
		if addr.IsUnspecified() {
			// What blocks a name in a hosts file. To connect there would lead to the container itself.
			return Answer{Err: fmt.Errorf("stands for %s, which is no destination", addr)}
		}
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
		if len(addrs) > maxAddrs {
			return Answer{Err: fmt.Errorf("has more than %d addresses", maxAddrs)}
		}
	}
	if len(addrs) == 0 {
		return Answer{Err: errors.New("has no address")}
	}
	return Answer{Addrs: addrs}
}

// reason is what went wrong, without the name, which whoever asked knows.
func reason(err error) error {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err
	}
	text := dns.Err
	if dns.IsTimeout {
		text = "no answer in time"
	}
	if dns.Server != "" {
		text += ", says " + dns.Server
		if dns.IsTimeout {
			text = "no answer in time from " + dns.Server
		}
	}
	return errors.New(text)
}
