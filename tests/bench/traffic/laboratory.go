package traffic

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/template"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader"
	"qlbaas/tests/bench/floor"
	"qlbaas/tests/lab"
)

// The network's fixed names and numbers.
const (
	bridgeName  = "br-bench"
	device      = "eth0" // of every host
	port        = 80     // of requests
	bulkPort    = 9000
	prefixBits  = 16
	memberCount = 2
	// devicesFrom is above the indexes that namespaces give out by themselves: a pair
	// whose ends have the same one waits up to a second for its carrier.
	devicesFrom = 20_000
	// requestFile is what wrk asks for, and requestSize its length.
	requestFile = "small"
	requestSize = 128
)

var (
	clientAddress = netip.MustParseAddr("172.16.0.4")
	secondClient  = netip.MustParseAddr("172.16.0.5")
	firstMember   = netip.MustParseAddr("172.16.0.9")
	firstVIP      = netip.MustParseAddr("172.16.1.1")
	// firstAlias begins the addresses by which pools have many members.
	firstAlias = netip.MustParseAddr("172.16.8.1")
)

//go:embed *.tmpl
var templates embed.FS

// laboratory is the network with everybody in it.
type laboratory struct {
	lab     *lab.Lab
	dir     string
	bridge  netlink.Link
	clients []*lab.Host // the first one sends all but a single row
	members [memberCount]*member
	bulk    *bulkServers
	// workers are the processes that are pinned for rows on one CPU.
	workers  []*lab.Process
	subjects []*subject
	nodes    map[string]*loader.Node // by hook's name
	pools    int
	plugs    int
	aliases  int        // further addresses of members
	vip      netip.Addr // the next one
	// configurations are the peers' own, as they were given to them.
	configurations []string
	closers        []func() error
}

type member struct {
	host    *lab.Host
	address netip.Addr
}

// build makes the laboratory. The caller closes it.
func build(ctx context.Context) (_ *laboratory, err error) {
	l := &laboratory{nodes: map[string]*loader.Node{}, vip: firstVIP}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("build laboratory: %w", err), l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("/run", "bench"); err != nil { // of this private world
		return nil, err
	}
	l.onClose(func() error { return os.RemoveAll(l.dir) })
	if err := os.Chmod(l.dir, 0o755); err != nil {
		return nil, err
	}
	if l.lab, err = lab.New(lab.Options{Prefix: "bench-"}); err != nil {
		return nil, err
	}
	l.onClose(l.lab.Close)
	for _, step := range []func(context.Context) error{
		l.addBridge, l.addClients, l.addMembers, l.addDirect, l.addHAProxies, l.addNFTables, l.addFloors, l.addOurs, l.await,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *laboratory) onClose(fn func() error) { l.closers = append(l.closers, fn) }

func (l *laboratory) close() error {
	var errs []error
	for _, fn := range slices.Backward(l.closers) {
		errs = append(errs, fn())
	}
	return errors.Join(errs...)
}

func (l *laboratory) addBridge(context.Context) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(false)}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	l.onClose(func() error { return netlink.LinkDel(bridge) })
	l.bridge = bridge
	return netlink.LinkSetUp(bridge)
}

// host adds a host to the network and returns the name of its port on the bridge, too.
func (l *laboratory) host(ctx context.Context, name string, address netip.Addr) (*lab.Host, string, error) {
	h, err := l.lab.Host(name)
	if err != nil {
		return nil, "", err
	}
	l.plugs++
	tap := fmt.Sprintf("tapbench%d", l.plugs)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.MasterIndex = tap, devicesFrom+l.plugs, l.bridge.Attrs().Index
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = device, netlink.NsFd(h.Namespace())
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, "", fmt.Errorf("plug %s in: %w", name, err)
	}
	err = errors.Join(
		h.AddAddress(device, netip.PrefixFrom(address, prefixBits)),
		h.SetUp(device),
		netlink.LinkSetUp(pair),
	)
	if err != nil {
		return nil, "", fmt.Errorf("plug %s in: %w", name, err)
	}
	return h, tap, awaitCarrier(ctx, tap)
}

// awaitCarrier waits until a device passes packets.
func awaitCarrier(ctx context.Context, name string) error {
	return until(ctx, "carrier of "+name, func() error {
		l, err := netlink.LinkByName(name)
		if err == nil && l.Attrs().OperState != netlink.OperUp {
			err = errors.New(l.Attrs().OperState.String())
		}
		return err
	})
}

// patience is how long anything may take to come up.
const patience = 10 * time.Second

// until tries until it works.
func until(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w", what, err)
		case <-again.C:
		}
	}
}

func (l *laboratory) addClients(ctx context.Context) error {
	for i, address := range []netip.Addr{clientAddress, secondClient} {
		h, _, err := l.host(ctx, fmt.Sprint("client", i+1), address)
		if err != nil {
			return err
		}
		l.clients = append(l.clients, h)
	}
	return nil
}

func (l *laboratory) addMembers(ctx context.Context) error {
	www := filepath.Join(l.dir, "www")
	if err := os.Mkdir(www, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(www, requestFile), bytes.Repeat([]byte("x"), requestSize), 0o644); err != nil {
		return err
	}
	l.bulk = &bulkServers{}
	l.onClose(l.bulk.close)
	address := firstMember
	for i := range l.members {
		name := fmt.Sprint("web", i+1)
		h, _, err := l.host(ctx, name, address)
		if err != nil {
			return err
		}
		l.members[i] = &member{host: h, address: address}
		address = address.Next()
		config, err := l.write("nginx.conf.tmpl", name+".conf", struct {
			Dir, Name string
			Port      int
		}{l.dir, name, port})
		if err != nil {
			return err
		}
		if err := l.start(h, "nginx", "-c", config); err != nil {
			return err
		}
		if err := l.bulk.serve(l.members[i]); err != nil {
			return err
		}
	}
	return nil
}

// start starts a worker.
func (l *laboratory) start(h *lab.Host, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	p, err := h.Start(cmd)
	if err == nil {
		l.workers = append(l.workers, p)
	}
	return err
}

// write makes a file of a template and returns its path.
func (l *laboratory) write(from, name string, of any) (string, error) {
	t, err := template.ParseFS(templates, from)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, of); err != nil {
		return "", err
	}
	if from != "nginx.conf.tmpl" {
		l.configurations = append(l.configurations, name+":\n"+text.String())
	}
	path := filepath.Join(l.dir, name)
	return path, os.WriteFile(path, text.Bytes(), 0o644)
}

// addresses of the two members.
func (l *laboratory) memberAddresses() (all []netip.Addr) {
	for _, m := range l.members {
		all = append(all, m.address)
	}
	return all
}

// nextVIP is an address that nobody had before.
func (l *laboratory) nextVIP() netip.Addr {
	vip := l.vip
	l.vip = vip.Next()
	return vip
}

// await returns when everybody answers.
func (l *laboratory) await(ctx context.Context) error {
	for _, s := range l.subjects {
		for _, to := range slices.Concat(s.requests, s.bulk) {
			if err := l.answers(ctx, to); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// answers waits until somebody takes connections there.
func (l *laboratory) answers(ctx context.Context, at netip.AddrPort) error {
	return until(ctx, at.String(), func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := l.clients[0].Dial(ctx, "tcp4", at.String())
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0) // it was only a knock
			_ = conn.Close()
		}
		return err
	})
}

// pin lets the workers run on one CPU, or on all of them.
func (l *laboratory) pin(cpus unix.CPUSet) error {
	for _, p := range l.workers {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Pid()))
		if err != nil {
			return fmt.Errorf("pin process: %w", err)
		}
		for _, t := range threads {
			var id int
			if _, err := fmt.Sscan(t.Name(), &id); err != nil {
				return fmt.Errorf("pin process: %w", err)
			}
			if err := unix.SchedSetaffinity(id, &cpus); err != nil {
				return fmt.Errorf("pin process %d: %w", id, err)
			}
		}
	}
	return nil
}

// peer is somebody as the floor's programs know him.
func peer(h *lab.Host, address netip.Addr) (floor.Peer, error) {
	mac, err := h.MAC(device)
	return floor.Peer{Address: address, MAC: mac}, err
}
