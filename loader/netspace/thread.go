package netspace

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ThreadPath names the network namespace of the calling thread.
const ThreadPath = "/proc/thread-self/ns/net"

// onThread runs fn, which may enter another network namespace, on a thread that
// runs nothing else meanwhile, and brings that thread home. A thread that cannot
// be brought home is never given back: it ends with its goroutine, because other
// goroutines would work in the wrong network without noticing.
//
// The process's first thread is spared: it cannot be ended, and /proc/self shows
// its namespaces to everybody.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := onThread(fn) // on another one, since this one is held
			runtime.UnlockOSThread()
			result <- err
			return
		}
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		err = fn()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		result <- errors.Join(err, home.Close())
	}()
	return <-result
}

// Inside runs fn on a thread inside the network namespace. What fn opens by
// netlink, socket or /proc/sys belongs to that namespace; fn must not start
// goroutines that shall be inside as well.
func Inside(ns *os.File, fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(netns.NsHandle(ns.Fd())); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
		}
		return fn()
	})
}
