package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

// couple is a connection, both its ends.
func couple(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

// across is a passage from one far end to another.
func across(t *testing.T) (p *passage, sender, receiver *net.TCPConn) {
	t.Helper()
	from, sender := couple(t)
	to, receiver := couple(t)
	in, err := newSocket(from)
	if err != nil {
		t.Fatal(err)
	}
	out, err := newSocket(to)
	if err != nil {
		t.Fatal(err)
	}
	return &passage{
		from: newReader(from, in, smallBuffer), to: &sink{TCPConn: to, to: out}, idle: 10 * time.Second, count: &atomic.Uint64{},
	}, sender, receiver
}

// noDescriptors takes from this process the right to more descriptors, until the test ends.
func noDescriptors(t *testing.T) {
	t.Helper()
	freePipes.mu.Lock()
	for _, p := range freePipes.free {
		p.close()
	}
	freePipes.free = nil
	freePipes.mu.Unlock()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}

// A body arrives as it was sent, with pipes and without.
func TestBodyGoesAcross(t *testing.T) {
	body := make([]byte, 5_000_001)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body) // never fails
	for _, name := range []string{"pipes", "none"} {
		t.Run(name, func(t *testing.T) {
			p, sender, receiver := across(t)
			if name == "none" {
				noDescriptors(t)
			}
			go func() { _, _ = sender.Write(append(body, "behind"...)) }() // what arrives tells
			moved := make(chan error, 1)
			go func() { moved <- p.known(int64(len(body))) }()
			got := make([]byte, len(body))
			if n, err := io.ReadFull(receiver, got); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, %v", n, err)
			}
			if err := <-moved; err != nil {
				t.Error(err)
			}
			rest := make([]byte, len("behind"))
			if _, err := io.ReadFull(p.from, rest); err != nil || string(rest) != "behind" {
				t.Errorf("behind the body: %q, %v", rest, err)
			}
			if n := p.count.Load(); n != uint64(len(body)) {
				t.Errorf("counted %d bytes", n)
			}
		})
	}
}

// The sender broke off.
func TestSenderBreaksOff(t *testing.T) {
	p, sender, _ := across(t)
	if _, err := sender.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	_ = sender.Close()
	if err := p.known(1_000_000); !errors.Is(err, errSource) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("it has ended: %v", err)
	}
	p, sender, _ = across(t)
	p.idle, p.least = 100*time.Millisecond, clientPace
	if _, err := sender.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := p.known(1 << 20); !errors.Is(err, errSource) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it is too slow: %v", err)
	}
}

// The receiver did, and a pipe with something in it is not used again.
func TestReceiverBreaksOff(t *testing.T) {
	endless := func(sender net.Conn) {
		for {
			if _, err := sender.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}
	p, sender, receiver := across(t)
	_ = receiver.SetLinger(0) // closes with a reset
	_ = receiver.Close()
	go endless(sender)
	if err := p.known(1 << 40); !errors.Is(err, errSink) {
		t.Errorf("it was gone: %v", err)
	}
	p, sender, _ = across(t)
	p.idle = 400 * time.Millisecond
	go endless(sender)
	if err := p.known(1 << 40); !errors.Is(err, errSink) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it does not read: %v", err)
	}
	for range keptPipes {
		empty, err := freePipes.take()
		if err != nil {
			t.Fatal(err)
		}
		var one [1]byte
		if n, err := unix.Read(empty.out, one[:]); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("a free pipe holds something: %d, %v", n, err)
		}
		empty.close()
	}
}
