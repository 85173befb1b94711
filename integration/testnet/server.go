package testnet

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Banner is the line that every server answers with, so that a client can tell it was really reached.
const Banner = "reached the server"

// Server answers one protocol at one address with Banner, and notes the peer of every connection or datagram.
type Server struct {
	Network string         // "tcp" or "udp"
	Addr    netip.AddrPort // with the port that was given out, where 0 was asked for

	closer interface{ Close() error }
	done   chan struct{}
	mu     sync.Mutex
	peers  []net.Addr
}

// Listen starts a server for network ("tcp" or "udp") at address inside the namespace.
func (n *Namespace) Listen(network, address string) (*Server, error) {
	s := &Server{Network: network, done: make(chan struct{})}
	err := n.Do(func() error {
		switch network {
		case "tcp":
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			s.closer, s.Addr = l, l.Addr().(*net.TCPAddr).AddrPort()
			go s.accept(l)
		case "udp":
			c, err := net.ListenPacket("udp", address)
			if err != nil {
				return err
			}
			s.closer, s.Addr = c, c.LocalAddr().(*net.UDPAddr).AddrPort()
			go s.receive(c)
		default:
			return net.UnknownNetworkError(network)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s server: %w", network, err)
	}
	return s, nil
}

func (s *Server) accept(l net.Listener) {
	defer close(s.done)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.note(conn.RemoteAddr())
		fmt.Fprintln(conn, Banner) // a client that has gone is no concern of the server's
		conn.Close()
	}
}

func (s *Server) receive(c net.PacketConn) {
	defer close(s.done)
	buf := make([]byte, 1500)
	for {
		_, peer, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		s.note(peer)
		c.WriteTo([]byte(Banner+"\n"), peer) // as above
	}
}

func (s *Server) note(peer net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = append(s.peers, peer)
}

// Peers returns who has reached the server so far.
func (s *Server) Peers() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Addr(nil), s.peers...)
}

// Close stops the server and waits for its goroutine.
func (s *Server) Close() error {
	err := s.closer.Close()
	<-s.done
	return err
}

func isIPv6(cidr string) bool {
	prefix, err := netip.ParsePrefix(cidr)
	return err == nil && prefix.Addr().Is6()
}
