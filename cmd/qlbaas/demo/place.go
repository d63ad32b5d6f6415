package demo

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// placeDir holds everything of a demo that is a file.
const placeDir = "/run/qlbaas-demo"

// Names of the hosts' namespaces.
const (
	hostPrefix = "demo-"
	clientHost = hostPrefix + "client"
	routerHost = hostPrefix + "router"
	nodeHost   = hostPrefix + "node"
)

// members is how many web servers there are; the last one is not in the pool at first.
const members = 3

// hosts are the names of all hosts.
func hosts() []string {
	all := []string{clientHost, routerHost, nodeHost}
	for i := range members {
		all = append(all, fmt.Sprintf("%sweb%d", hostPrefix, i+1))
	}
	return all
}

// place is where the demo's files are.
type place struct {
	dir, state, run, bpffs string
	// socket is the agent's; log is what agent and web servers say.
	socket, log string
	// pools names a file per pool that was made, see remember.
	pools string
}

func newPlace(dir string) place {
	return place{
		dir:    dir,
		state:  filepath.Join(dir, "state"),
		run:    filepath.Join(dir, "run"),
		bpffs:  filepath.Join(dir, "bpf"),
		socket: filepath.Join(dir, "run", "api.sock"),
		log:    filepath.Join(dir, "log"),
		pools:  filepath.Join(dir, "pools"),
	}
}

func (p place) make() error {
	for _, dir := range []string{p.dir, p.state, p.run, p.bpffs, p.pools} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

// remember notes a pool before it can have a namespace, so that clean knows its name.
func (p place) remember(pool string) error {
	if err := os.WriteFile(filepath.Join(p.pools, pool), nil, 0o600); err != nil {
		return fmt.Errorf("note pool: %w", err)
	}
	return nil
}

// lock keeps a second demo away until unlock is called or the process ends.
func lock() (unlock func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the demo makes network namespaces: it needs root")
	}
	l, err := net.Listen("unix", "@qlbaas-demo")
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, errors.New("another demo is running: let it end, or interrupt it")
	}
	if err != nil {
		return nil, fmt.Errorf("lock demo: %w", err)
	}
	return func() { _ = l.Close() }, nil // its end is all that matters
}
