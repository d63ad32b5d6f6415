package keeper

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listen opens the clients' socket if there is none. op is held.
func (p *place) listen() error {
	if p.listener != nil {
		return nil
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // the balancer knows plain TCP
	config.Control = func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) { inner = freeBind(int(fd), p.vip.Addr()) })
		return errors.Join(err, inner)
	}
	var listener net.Listener
	open := func() (err error) {
		listener, err = config.Listen(p.keeper.ctx, "tcp", p.vip.String())
		return err
	}
	if err := p.insist(open); err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	p.listener = listener.(*net.TCPListener) // "tcp" gives nothing else
	return nil
}

// insist opens the clients' socket inside the pool's namespace. One that retires may need a
// moment to close its own; who still has it then is a sidecar that nobody can talk to.
func (p *place) insist(open func() error) error {
	k := p.keeper
	for bound := time.Now().Add(slowness); ; {
		err := k.options.Spaces.Inside(p.id, open)
		if !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
		if time.Now().After(bound) {
			break
		}
		select {
		case <-k.ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	k.log.Error("sidecars that nobody knows are ended", "pool", p.id)
	if err := k.killAll(p.id); err != nil {
		return err
	}
	return k.options.Spaces.Inside(p.id, open)
}

// astray tells whether the clients' socket is in another namespace than the pool's, which
// was made anew then. op is held.
func (p *place) astray() (astray bool, err error) {
	err = p.keeper.options.Spaces.Inside(p.id, func() error {
		if p.listener == nil {
			return nil
		}
		var here unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &here); err != nil {
			return fmt.Errorf("look at namespace: %w", err)
		}
		there, err := namespaceOf(p.listener)
		astray = err == nil && (here.Ino != there.Ino || here.Dev != there.Dev)
		return err
	})
	return astray, err
}

// namespaceOf is the network namespace that a socket is of.
func namespaceOf(socket syscall.Conn) (ns unix.Stat_t, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return ns, fmt.Errorf("look at socket: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		at, err := unix.IoctlRetInt(int(fd), unix.SIOCGSKNS)
		if err != nil {
			inner = err
			return
		}
		inner = unix.Fstat(at, &ns)
		_ = unix.Close(at) // it was only looked at
	})
	if err := errors.Join(err, inner); err != nil {
		return ns, fmt.Errorf("look at socket's namespace: %w", err)
	}
	return ns, nil
}

// freeBind lets a socket have an address before the device has it, as while a VIP is
// admin-down.
func freeBind(fd int, address netip.Addr) error {
	if address.Is4() {
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
}
