package maps

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/bpf"
)

func TestMain(m *testing.M) {
	// A step of the model waits for grace periods; -rapid.checks on the command line
	// wins over this.
	_ = flag.Set("rapid.checks", "15")
	os.Exit(m.Run())
}

func loadSpec(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.LoadLb4()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// newPool makes a pool on maps of its own.
func newPool(t testing.TB) *Pool {
	t.Helper()
	return newPoolOf(t, loadSpec(t))
}

func newPoolOf(t testing.TB, spec *ebpf.CollectionSpec) *Pool {
	t.Helper()
	var m PoolMaps
	assign(t, spec, &m)
	p, err := NewPool(spec, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newNode(t testing.TB) *Node {
	t.Helper()
	var m NodeMaps
	assign(t, loadSpec(t), &m)
	n, err := NewNode(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func assign(t testing.TB, spec *ebpf.CollectionSpec, to any) {
	t.Helper()
	if err := spec.LoadAndAssign(to, nil); err != nil {
		t.Fatalf("make maps (needs root): %v", err)
	}
}

// restart closes a pool and views its maps again, as a new daemon would: by clones of
// the outer maps, and with the inner maps found under pins.
func restart(t testing.TB, p *Pool, pinned map[string]*ebpf.Map) (*Pool, Adoption) {
	t.Helper()
	var clones PoolMaps
	for name, m := range p.own.Names() {
		clone, err := m.Clone()
		if err != nil {
			t.Fatal(err)
		}
		if err := clones.Set(name, clone); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := NewPool(loadSpec(t), clones)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	found, err := again.Adopt(pinned)
	if err != nil {
		t.Fatal(err)
	}
	return again, found
}

// bpffs mounts a bpffs in a mount namespace that this test's thread has for itself,
// and returns an empty directory in it (the root holds maps.debug and progs.debug).
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	runtime.LockOSThread() // for good: the thread dies with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	root := dir
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	dir = filepath.Join(dir, "maps")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// consistent fails if the pool's inner maps are not those in its outer maps.
func consistent(t testing.TB, p *Pool) {
	t.Helper()
	for _, outer := range outerNames() {
		for index := range p.outers[outer].MaxEntries() {
			at := place{outer, index}
			want, err := p.idAt(at)
			if err != nil {
				t.Fatal(err)
			}
			got := ebpf.MapID(0)
			if m := p.inner[at]; m != nil {
				got = idOf(t, m)
			}
			if got != want {
				t.Errorf("%s: the pool holds map %d, programs see %d", at.name(), got, want)
			}
		}
	}
}

func idOf(t testing.TB, m *ebpf.Map) ebpf.MapID {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

func exampleVIP() VIP {
	return VIP{
		ID:       "0b1d5c4e-7a1f-4f1c-9d3e-6a5b4c3d2e1f",
		Address:  netip.MustParseAddrPort("172.16.100.11:80"),
		Protocol: TCP, SNAT: SourcesOf(netip.MustParseAddr("172.16.100.11")),
		Method: RoundRobin, HashSeed: 0x1234, ConnectionLimit: NoLimit, FlowLimit: 16384,
		Idle: 7440 * time.Second, HalfOpen: time.Minute, HalfOpenPressure: 5 * time.Second,
		Closing: 10 * time.Second, Rest: time.Minute, AffinityTimeout: 3 * time.Hour,
	}
}

func exampleMember(slot uint16) Member {
	return Member{
		Slot: slot, ID: uuid(int(slot) + 1), Serial: uint32(slot) + 100, Weight: 1, Present: true,
		Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(slot >> 8), byte(slot)}), 80),
	}
}

// example is a generation of ROUND_ROBIN over the slots.
func example(number uint32, slots ...uint16) Generation {
	g := Generation{Number: number, VIP: exampleVIP()}
	for _, slot := range slots {
		g.Members = append(g.Members, exampleMember(slot))
		g.Schedule = append(g.Schedule, slot)
	}
	return g
}

func write(t testing.TB, p *Pool, g Generation) []Inner {
	t.Helper()
	fresh, err := p.Write(g)
	if err != nil {
		t.Fatal(err)
	}
	return fresh
}

func addSlots(t testing.TB, p *Pool, slots ...uint16) {
	t.Helper()
	if _, err := p.AddSlots(slots...); err != nil {
		t.Fatal(err)
	}
}

func generation(t testing.TB, p *Pool) Generation {
	t.Helper()
	g, err := p.Generation()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// freeze makes every later write to the map from outside programs fail with EPERM.
func freeze(t testing.TB, fd int) {
	t.Helper()
	attr := struct{ fd uint32 }{uint32(fd)}
	const bpfMapFreeze = 22
	if _, _, errno := unix.Syscall(unix.SYS_BPF, bpfMapFreeze,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
		t.Fatalf("freeze map: %v", errno)
	}
}

// withDescriptors runs f while the process can open that many more file descriptors.
func withDescriptors(t testing.TB, more int, f func()) {
	t.Helper()
	next, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	tight := unix.Rlimit{Cur: uint64(next + more), Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}
