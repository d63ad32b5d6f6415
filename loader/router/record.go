package router

import (
	"log/slog"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf/link"

	"qlbaas/loader/netspace"
	"qlbaas/loader/pin"
	"qlbaas/maps"
)

// router is what the daemon holds of one router. Nothing in it is needed to find the router
// again after a restart. Locks are taken in this order: operation, data.
type router struct {
	id  string
	log *slog.Logger
	// users counts who holds or waits for the operation lock; guarded by Node.mu.
	users int

	// operation is held by whatever looks at the router or changes it as a whole.
	operation sync.Mutex
	pins      *pin.Pins
	// wanted is the router as of the last Apply; nil after a restart.
	wanted *Router
	// complete says that it was wholly there once.
	complete bool
	// links keep programs attached, by their pin's name.
	links map[string]*link.Link
	// announce are the addresses of legs, by port, that the network is to hear of.
	announce map[string]map[netip.Addr]bool
	// mayShout is what announcements, also those still to come, may say; voice is held
	// while one is sent.
	voice    sync.Mutex
	mayShout map[shout]bool

	// data guards what statistics look at while an operation runs.
	data     sync.RWMutex
	ns       *netspace.Namespace // written with the operation lock held as well
	tables   *maps.RouterMaps    // likewise; nil: not deployed
	programs *programs           // likewise
	status   Status
}

func newRouter(id string, log *slog.Logger, pins string) *router {
	return &router{
		id: id, log: log.With("router", id), pins: pin.New(pins),
		links: map[string]*link.Link{}, announce: map[string]map[netip.Addr]bool{},
	}
}

func (r *router) setNamespace(ns *netspace.Namespace) {
	r.data.Lock()
	defer r.data.Unlock()
	r.ns = ns
}

func (r *router) setTables(tables *maps.RouterMaps) {
	r.data.Lock()
	defer r.data.Unlock()
	r.tables = tables
}

func (r *router) setPrograms(ps *programs) {
	r.data.Lock()
	defer r.data.Unlock()
	r.programs = ps
}

// tell has the network told of an address of a leg once the leg is at work.
func (r *router) tell(l *leg, addresses ...netip.Addr) {
	if r.announce[l.PortID] == nil {
		r.announce[l.PortID] = map[netip.Addr]bool{}
	}
	for _, a := range addresses {
		r.announce[l.PortID][a] = true
	}
}

// letGo closes whatever is open of the router; the kernel keeps what is pinned. The
// operation lock is held.
func (r *router) letGo() {
	r.quieten(nil)
	for name, l := range r.links {
		if *l != nil {
			(*l).Close()
		}
		delete(r.links, name)
	}
	r.data.Lock()
	defer r.data.Unlock()
	if r.tables != nil {
		r.tables.Close()
	}
	r.programs.Close()
	if r.ns != nil {
		r.ns.Close()
	}
	r.ns, r.tables, r.programs, r.wanted, r.complete = nil, nil, nil, nil, false
	clear(r.announce)
	r.pins.Forget()
}

func (r *router) note(err error) {
	r.data.Lock()
	defer r.data.Unlock()
	r.status.LastError = ""
	if err != nil {
		r.status.LastError = err.Error()
	}
}
