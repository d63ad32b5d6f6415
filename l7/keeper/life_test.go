package keeper_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAdopt: a sidecar survives its keeper, and the next keeper knows all of it.
func TestAdopt(t *testing.T) {
	w := running(t)
	for range 3 {
		w.mustGet()
	}
	open := w.connect()
	pid, before := w.pid(), w.counted()
	w.keeper.Close()
	w.mustGet()
	w.open("1")
	if serving, leaving := w.keeper.State(id); !serving || leaving {
		t.Errorf("serving %t, leaving %t", serving, leaving)
	}
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	if now := w.pid(); now != pid {
		t.Errorf("it is process %d, was %d", now, pid)
	}
	if s := w.counted(); s.Generation != before.Generation || s.Proxy.Requests != 5 || s.Proxy.Clients != 1 {
		t.Errorf("counters %+v", s)
	}
	w.must(open.ask())
	w.signal(pid, unix.SIGKILL)
	if took := w.awaitMended(pid); took > mended {
		t.Errorf("it took %s to mend", took)
	}
	w.mustGet()
	if s := w.counted(); s.Proxy.Requests < 6 {
		t.Errorf("counters %+v", s)
	}
}

// TestAdoptHanging: one that hangs when the keeper comes is replaced.
func TestAdoptHanging(t *testing.T) {
	w := running(t)
	pid := w.pid()
	w.keeper.Close()
	w.hang(pid)
	w.open("1")
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	if now := w.pid(); now == pid {
		t.Error("it is still the old one")
	}
	w.mustGet()
}

// TestUpgrade: a keeper of another version replaces the sidecar under load, and nobody
// notices.
func TestUpgrade(t *testing.T) {
	w := running(t)
	open := w.connect()
	pid := w.pid()
	stop := w.load()
	for _, version := range []string{"2", "3"} {
		w.keeper.Close()
		w.open(version)
		w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
		if info, _ := w.keeper.Info(id); info.PID == pid || info.Version != version || info.Restarts != 0 {
			t.Errorf("after the upgrade to %s: %+v, before process %d", version, info, pid)
		}
		pid = w.pid()
	}
	requests, failures := stop()
	for i, err := range failures {
		if i < 5 {
			t.Errorf("request: %v", err)
		}
	}
	if serving, leaving := w.keeper.State(id); !serving || !leaving {
		t.Errorf("serving %t, leaving %t while the first process has a client", serving, leaving)
	}
	w.must(open.ask()) // in the first process
	open.Close()
	w.await("the end of the first", func() error {
		if _, leaving := w.keeper.State(id); leaving {
			return errors.New("it is there")
		}
		return nil
	})
	w.await("the counters", func() error {
		if s := w.counted(); s.Proxy.Requests != uint64(requests)+2 {
			return fmt.Errorf("%d of %d requests are counted", s.Proxy.Requests, requests+2)
		}
		return nil
	})
}

// TestRetire: clients finish, those who wait are served, and what was counted stays
// until it is settled.
func TestRetire(t *testing.T) {
	w := running(t)
	open := w.connect()
	pid := w.pid()
	w.keeper.Retire(id)
	w.must(w.keeper.Ensure(w.context(), id, vip, basic())) // it stays, after all
	w.keeper.Retire(id)
	if serving, leaving := w.keeper.State(id); !serving || leaving {
		t.Errorf("serving %t, leaving %t", serving, leaving)
	}
	w.mustGet() // not refused at once
	w.await("the end of listening", func() error {
		if _, err := w.get(w.context()); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("a client met %w", err)
		}
		return nil
	})
	w.awaitChanged()
	if serving, leaving := w.keeper.State(id); serving || !leaving {
		t.Errorf("serving %t, leaving %t", serving, leaving)
	}
	w.await("the others' end", func() error {
		if n := w.counted().Proxy.Clients; n != 1 {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})
	first := w.counted()
	w.keeper.Settle(id, first)
	if s := w.counted(); s.Proxy.Requests != 0 || s.Proxy.Clients != 1 {
		t.Errorf("settled %+v, left %+v", first.Proxy, s.Proxy)
	}
	w.must(open.ask())
	open.Close()
	w.awaitChanged()
	if serving, leaving := w.keeper.State(id); serving || leaving || unix.Kill(pid, 0) == nil {
		t.Errorf("serving %t, leaving %t, process %v", serving, leaving, unix.Kill(pid, 0))
	}
	rest := w.counted()
	if rest.Proxy.Requests != 1 || rest.Proxy.Clients != 0 {
		t.Errorf("left %+v", rest.Proxy)
	}
	w.keeper.Settle(id, rest)
	if left := w.keeper.Pools(); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestLastBytes: a sidecar that has ended leaves for good when the kernel has brought its
// last answers to their clients: they need the port.
func TestLastBytes(t *testing.T) {
	const size = 32 << 10
	w := newWorld(t)
	// All of the answer fits behind the sidecar's socket, and little before its client.
	w.must(w.balancer.Sysctl("net.ipv4.tcp_wmem", "4096 262144 4194304"))
	w.must(w.client.Sysctl("net.ipv4.tcp_rmem", "4096 4096 4096"))
	w.open("1")
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	pid := w.pid()
	conn, err := w.client.Dial(w.context(), "tcp", vip.String())
	w.must(err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET /download?size=%d&seed=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", size)
	w.must(err)
	w.await("the answer", func() error {
		if s := w.counted().Proxy; s.Requests != 1 || s.Clients != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.keeper.Retire(id)
	w.await("its end", func() error {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
	before := w.looks.Load()
	w.await("looks at its sockets", func() error {
		if n := w.looks.Load() - before; n < 3 {
			return fmt.Errorf("there were %d", n)
		}
		return nil
	})
	if _, leaving := w.keeper.State(id); !leaving {
		t.Error("it has left, and its answer has not arrived")
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	w.must(err)
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
		t.Errorf("%d bytes arrived, %v", n, err)
	}
	conn.Close()
	w.await("its leave", func() error {
		if _, leaving := w.keeper.State(id); leaving {
			return errors.New("it is there")
		}
		return nil
	})
}

// TestRetired: a keeper that comes while a sidecar finishes lets it, and can start
// another one beside it.
func TestRetired(t *testing.T) {
	w := running(t)
	open := w.connect()
	pid := w.pid()
	w.keeper.Retire(id)
	w.await("its leave", func() error {
		if info, wanted := w.keeper.Info(id); wanted {
			return fmt.Errorf("%+v", info)
		}
		return nil
	})
	w.keeper.Close()
	w.open("1")
	if serving, leaving := w.keeper.State(id); serving || !leaving {
		t.Errorf("serving %t, leaving %t", serving, leaving)
	}
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	w.mustGet()
	w.must(open.ask())
	open.Close()
	w.await("the end of the first", func() error {
		if _, leaving := w.keeper.State(id); leaving {
			return fmt.Errorf("process %d: %w", pid, unix.Kill(pid, 0))
		}
		return nil
	})
	w.mustGet()
}

// TestAstray: a sidecar whose namespace is no longer the pool's is replaced.
func TestAstray(t *testing.T) {
	w := running(t)
	w.mustGet()
	pid := w.pid()
	w.elsewhere = w.members // where there is no such address
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	if now := w.pid(); now == pid {
		t.Errorf("it is still process %d", now)
	}
	if _, err := w.get(w.context()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a client met %v", err)
	}
	w.elsewhere = nil
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	w.mustGet()
	if s := w.counted(); s.Proxy.Requests != 2 {
		t.Errorf("counters %+v", s)
	}
}
