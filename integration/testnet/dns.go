package testnet

import (
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server for a few names. All others do not exist.
type DNS struct {
	conn net.PacketConn
	done chan struct{}

	mu    sync.Mutex
	zone  map[string][]netip.Addr // by name in lower case with the last dot; nil has the server keep silent
	asked []string
}

// ServeDNS starts a name server at address inside the namespace. A name without addresses in the zone is one that the server does not
// answer for at all.
func (n *Namespace) ServeDNS(address string, zone map[string][]string) (*DNS, error) {
	d := &DNS{done: make(chan struct{})}
	d.Set(zone)
	err := n.Do(func() (err error) {
		d.conn, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	go d.serve()
	return d, nil
}

// Set replaces what the server knows.
func (d *DNS) Set(zone map[string][]string) {
	parsed := make(map[string][]netip.Addr, len(zone))
	for name, addrs := range zone {
		parsed[strings.ToLower(name)+"."] = nil
		for _, addr := range addrs {
			parsed[strings.ToLower(name)+"."] = append(parsed[strings.ToLower(name)+"."], netip.MustParseAddr(addr))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zone = parsed
}

// Asked returns the names that the server was asked for, in order.
func (d *DNS) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.asked...)
}

// Close stops the server and waits for its goroutine.
func (d *DNS) Close() error {
	err := d.conn.Close()
	<-d.done
	return err
}

func (d *DNS) serve() {
	defer close(d.done)
	buf := make([]byte, 1500)
	for {
		n, peer, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := d.answer(buf[:n]); answer != nil {
			d.conn.WriteTo(answer, peer) // a client that has gone is no concern of the server's
		}
	}
}

// answer makes the reply to a query; nil for none.
func (d *DNS) answer(query []byte) []byte {
	var message dnsmessage.Message
	if message.Unpack(query) != nil || len(message.Questions) != 1 {
		return nil
	}
	question := message.Questions[0]
	name := strings.ToLower(question.Name.String())
	d.mu.Lock()
	d.asked = append(d.asked, name)
	addrs, known := d.zone[name]
	d.mu.Unlock()
	if known && addrs == nil {
		return nil
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: message.ID, Response: true, RecursionAvailable: true, RecursionDesired: true}, Questions: message.Questions}
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case addr.Is4() && question.Type == dnsmessage.TypeA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && question.Type == dnsmessage.TypeAAAA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}
