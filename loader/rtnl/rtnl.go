// Package rtnl asks the kernel's route netlink until it answers whole, and puts prefixes into
// its words.
package rtnl

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// timeout bounds every wait for an answer of the kernel.
const timeout = 5 * time.Second

// Open opens route netlink in the calling thread's namespace.
func Open() (*netlink.Handle, error) {
	routes, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := routes.SetSocketTimeout(timeout); err != nil {
		routes.Close()
		return nil, fmt.Errorf("bound netlink: %w", err)
	}
	return routes, nil
}

// dumpTries is how often a list is asked for before giving up. The kernel breaks a
// dump off when the table changes meanwhile, which on a busy node is often; the
// part that did arrive is never used, because a missing object would be made twice.
const dumpTries = 20

// Dump asks for a list until it arrives whole.
func Dump[T any](list func() ([]T, error)) (result []T, err error) {
	for range dumpTries {
		result, err = list()
		interrupted := errors.Is(err, netlink.ErrDumpInterrupted) ||
			errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS)
		if !interrupted {
			return result, err
		}
	}
	return nil, fmt.Errorf("interrupted %d times: %w", dumpTries, err)
}

// LinkByName returns nil for a device that is not there.
func LinkByName(routes *netlink.Handle, name string) (netlink.Link, error) {
	return foundLink(name, func() (netlink.Link, error) { return routes.LinkByName(name) })
}

// LinkByIndex returns nil for a device that is not there.
func LinkByIndex(routes *netlink.Handle, index int) (netlink.Link, error) {
	if index <= 0 { // what a device without a peer says of it
		return nil, nil
	}
	return foundLink(index, func() (netlink.Link, error) { return routes.LinkByIndex(index) })
}

func foundLink(what any, find func() (netlink.Link, error)) (netlink.Link, error) {
	links, err := Dump(func() ([]netlink.Link, error) {
		link, err := find()
		return []netlink.Link{link}, err
	})
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find device %v: %w", what, err)
	}
	return links[0], nil
}
