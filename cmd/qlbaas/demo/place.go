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
	// outsideHost is on the external network, behind the service's own router.
	outsideHost = hostPrefix + "outside"
)

// members is how many web servers there are; the last one is not in the pool at first.
const members = 3

// hosts are the names of all hosts.
func hosts() []string {
	all := []string{clientHost, routerHost, nodeHost, outsideHost}
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
	// pools and routers name a file per pool and router that was made, see remember.
	pools, routers string
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

		routers: filepath.Join(dir, "routers"),
	}
}

func (p place) make() error {
	for _, dir := range []string{p.dir, p.state, p.run, p.bpffs, p.pools, p.routers} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

// remember notes a pool, or a router, before it can have a namespace, so that clean knows
// its name.
func remember(dir, id string) error {
	if err := os.WriteFile(filepath.Join(dir, id), nil, 0o600); err != nil {
		return fmt.Errorf("note what is made: %w", err)
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
