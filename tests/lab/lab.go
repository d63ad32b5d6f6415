package lab

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// Options of a laboratory; the zero value is right inside Enter.
type Options struct {
	// Prefix begins the name of every host's namespace: lower-case letters, digits,
	// dots and dashes. With OnMachine it is required.
	Prefix string
	// OnMachine builds on the machine itself, in sight of everybody. Without it New
	// refuses to work outside of the private world that Enter makes.
	OnMachine bool
	// Logger is told what is built; nil is silent.
	Logger *slog.Logger
}

// Lab owns hosts and all that runs in them. Its methods are safe for concurrent
// use, but for Close.
type Lab struct {
	options   Options
	log       *slog.Logger
	processes processes
	links     atomic.Int64 // made so far

	mu       sync.Mutex
	hosts    []*Host
	closers  []io.Closer // servers and captures, in the order they were started
	captures []*Capture
}

// ErrOutside says that a laboratory was to be built on the machine itself by
// somebody who did not ask for that.
var ErrOutside = errors.New("outside of the private world: TestMain must call lab.Enter")

// New returns an empty laboratory. It fails with ErrOutside where it could harm
// the machine.
func New(options Options) (*Lab, error) {
	switch {
	case !options.OnMachine && !Inside():
		return nil, fmt.Errorf("new laboratory: %w", ErrOutside)
	case options.OnMachine && options.Prefix == "":
		return nil, errors.New("new laboratory: on the machine itself it needs a prefix for its names")
	case options.OnMachine && os.Geteuid() != 0:
		return nil, errors.New("new laboratory: it needs root")
	}
	log := options.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Lab{options: options, log: log}, nil
}

// Host adds a host with its loopback device up and nothing else. Its namespace is
// called Prefix + name and must not exist yet.
func (l *Lab) Host(name string) (*Host, error) {
	h, err := newHost(l, l.options.Prefix+name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = append(l.hosts, h)
	l.log.Debug("host added", "name", h.name)
	return h, nil
}

// own ends c when the lab closes, before what was started earlier.
func (l *Lab) own(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, c)
}

// Close ends servers and processes and removes the hosts. It goes on after an error
// and returns all of them. Processes that others than Host.Start have left in a
// host are killed and reported as an error.
func (l *Lab) Close() error {
	errs := l.closeOwned()
	l.killProcesses()
	for _, h := range l.hosts {
		errs = append(errs, h.remove())
	}
	l.hosts = nil
	return errors.Join(errs...)
}

// Release ends the laboratory for this process and leaves everything in the kernel
// standing: hosts, links, processes. Servers of this process end with it. Remove
// takes the hosts away later.
func (l *Lab) Release() error {
	errs := l.closeOwned()
	for _, h := range l.hosts {
		errs = append(errs, h.closeHandles())
	}
	l.hosts = nil
	return errors.Join(errs...)
}

func (l *Lab) closeOwned() (errs []error) {
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i].Close())
	}
	l.closers, l.captures = nil, nil
	return errs
}

// Names lists the hosts' namespaces in the order in which they were added.
func (l *Lab) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, h := range l.hosts {
		names = append(names, h.name)
	}
	return names
}

// strays is the error for processes that were killed inside a host.
func strays(host string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("close host %s: processes were left in it: %s", host, strings.Join(lines, "; "))
}
