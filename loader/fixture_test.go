package loader

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

const bridgeName = "br-test"

// world is where one test deploys its pools: own pins, own directories, a bridge. At
// its end nothing of any pool may be left, unless the test said so.
type world struct {
	*testing.T
	opts  Options
	nodes map[*Node]bool // that are open
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, nodes: map[*Node]bool{}, opts: Options{
		BPFFS:    filepath.Join(systemBPFFS, fmt.Sprintf("t%x", randomBytes(t, 4))),
		RunDir:   filepath.Join(dir, "run"),
		StateDir: filepath.Join(dir, "state"),
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	bridge := netlink.NewLinkAttrs()
	bridge.Name = bridgeName
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: bridge}); err != nil {
		t.Fatal(err)
	}
	up, err := netlink.LinkByName(bridgeName)
	if err == nil {
		err = netlink.LinkSetUp(up)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.clean()
		}
		if err := netlink.LinkDel(up); err != nil {
			t.Error(err)
		}
		os.RemoveAll(w.opts.BPFFS)
	})
	return w
}

func randomBytes(t testing.TB, n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func newUUID(t testing.TB) string {
	b := randomBytes(t, 16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// open opens a node that is closed at the end of the test.
func (w *world) open() *Node {
	w.Helper()
	n, err := Open(w.Context(), w.opts)
	if err != nil {
		w.Fatal(err)
	}
	w.nodes[n] = true
	w.Cleanup(func() {
		if w.nodes[n] {
			w.close(n)
		}
	})
	return n
}

func (w *world) close(n *Node) {
	w.Helper()
	delete(w.nodes, n)
	if err := n.Close(); err != nil {
		w.Error(err)
	}
}

// balancer is a pool with two members, wanted whole.
func (w *world) balancer() Balancer {
	mac := append(net.HardwareAddr{0xfa, 0x16, 0x3e}, randomBytes(w, 3)...)
	return Balancer{
		PoolID: newUUID(w), AdminUp: true,
		VIP: VIP{
			ID: newUUID(w), PortID: newUUID(w), MAC: mac, AdminUp: true,
			Address: netip.MustParsePrefix("172.16.100.11/24"), Gateway: netip.MustParseAddr("172.16.100.1"),
			Port: 80, Bridge: bridgeName, ConnectionLimit: -1,
		},
		Members: []Member{
			{ID: newUUID(w), Address: netip.MustParseAddrPort("172.16.100.9:80"), Weight: 1, AdminUp: true},
			{ID: newUUID(w), Address: netip.MustParseAddrPort("172.16.100.10:80"), Weight: 1, AdminUp: true},
		},
	}
}

// sourceAddresses are further ones of the VIP's subnet.
func sourceAddresses(n int) []netip.Addr {
	all := []netip.Addr{netip.MustParseAddr("172.16.100.21")}
	for len(all) < n {
		all = append(all, all[len(all)-1].Next())
	}
	return all[:n]
}

func (w *world) apply(n *Node, b Balancer) {
	w.Helper()
	if err := n.Apply(w.Context(), b); err != nil {
		w.Fatal(err)
	}
}

func (w *world) remove(n *Node, b Balancer) {
	w.Helper()
	if err := n.Remove(w.Context(), b.PoolID); err != nil {
		w.Fatal(err)
	}
}

// leftovers lists everything of pools that is in sight: names of namespaces, devices,
// pins, state directories, accounts of handshakes.
func (w *world) leftovers() []string {
	w.Helper()
	var found []string
	for _, pattern := range []string{
		filepath.Join(netspace.Dir, namespacePrefix+"*"),
		filepath.Join(w.opts.BPFFS, "pools", "*"),
		filepath.Join(w.opts.StateDir, "pools", "*"),
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, paths...)
	}
	links, err := rtnl.Dump(netlink.LinkList)
	if err != nil {
		w.Fatal(err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, outsidePrefix) || l.Type() == "veth" {
			found = append(found, name)
		}
	}
	return found
}

func (w *world) wantNothingLeft() {
	w.Helper()
	if found := w.leftovers(); len(found) > 0 {
		w.Errorf("left over: %q", found)
	}
}

// clean takes away what a failed test has left, for the tests that follow.
func (w *world) clean() {
	ids, _ := namespacePools()
	for _, id := range ids {
		if ns, err := netspace.Open(namespaceName(id)); err == nil {
			links, _ := rtnl.Dump(ns.Routes.LinkList)
			for _, l := range links {
				_ = ns.Routes.LinkDel(l)
			}
			ns.Close()
		}
		_ = netspace.Remove(context.Background(), change.Steps{}, namespaceName(id))
	}
}

func (w *world) unmount(dir string) {
	w.Helper()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		w.Fatal(err)
	}
}

func put32(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }

// lightObjects are programs that do nothing, on the same maps. The kernel takes a
// quarter of a second to verify the real ones, which is too long for tests that load
// them hundreds of times to see something else fail.
func lightObjects() ([families]objects, error) {
	all, err := readObjects()
	for f := range all {
		for _, spec := range []*ebpf.CollectionSpec{all[f].tc, all[f].lanes[laneXDP], all[f].lanes[laneTap]} {
			if err != nil {
				return all, err
			}
			for name, program := range spec.Programs {
				program.Instructions = asm.Instructions{
					asm.LoadMapPtr(asm.R1, 0).WithReference("flows").WithSymbol(name),
					asm.LoadMapPtr(asm.R1, 0).WithReference("vips"),
					asm.LoadMapPtr(asm.R1, 0).WithReference("member_states"),
					asm.Mov.Imm(asm.R0, 0),
					asm.Return(),
				}
				if name == programTap { // whose device it is for is looked up in its constants
					device := asm.LoadMapPtr(asm.R1, 0).WithReference(constants)
					program.Instructions = slices.Insert(program.Instructions, 1, device)
				}
				if name == programSweep {
					expiry := asm.LoadMapPtr(asm.R1, 0).WithReference("expiry")
					program.Instructions = slices.Insert(program.Instructions, 1, expiry)
				}
			}
		}
	}
	return all, err
}
