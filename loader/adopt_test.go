package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/maps"
)

// identities are the kernel's ids of everything that a pool runs on.
func identities(t testing.TB, n *Node, pool string) map[string]string {
	t.Helper()
	p := n.find(pool)
	if p == nil || p.view == nil {
		t.Fatalf("pool %s is not open", pool)
	}
	ids := map[string]string{"generation": fmt.Sprint(p.active.Number)}
	for name, object := range p.wantedPins() {
		var id any
		var err error
		switch o := object.(type) {
		case *ebpf.Map:
			id, err = mapID(o)
		case *ebpf.Program:
			id, err = hook.ProgramID(o)
		case link.Link:
			var info *link.Info
			if info, err = o.Info(); err == nil {
				id = [2]any{info.ID, info.Program}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = fmt.Sprint(id)
	}
	st, err := os.Stat(netspace.Path(namespaceName(pool)))
	if err != nil {
		t.Fatal(err)
	}
	ids["namespace"] = fmt.Sprint(st.Sys())
	return ids
}

func wantSame(t testing.TB, before, after map[string]string) {
	t.Helper()
	for name, id := range before {
		if name != "namespace" && after[name] != id {
			t.Errorf("%s: was %s, is %s", name, id, after[name])
		}
	}
	for name := range after {
		if before[name] == "" {
			t.Errorf("%s is new", name)
		}
	}
}

// A daemon that starts finds what its predecessor left and changes none of it.
func TestAdoption(t *testing.T) {
	for _, hook := range []string{HookTCX, HookClsact, HookXDP} {
		t.Run(hook, func(t *testing.T) {
			w := newWorld(t)
			at := &failAt{}
			w.opts.Hook = hook
			w.opts.fault = func(step string) error { return at.fault(step) }
			n := w.open()
			b := w.balancer()
			b.VIP.Persistence = SourceIPPersistence
			w.apply(n, b)
			down := b.Members[0].ID
			if err := n.SetMemberUp(b.PoolID, down, false); err != nil {
				t.Fatal(err)
			}
			w.close(n) // writes the verdict's generation
			n = w.open()
			before := identities(t, n, b.PoolID)
			serials := serialsOf(t, n, b.PoolID)
			w.close(n)

			n = w.open()
			wantSame(t, before, identities(t, n, b.PoolID))
			if up, known := n.MemberUp(b.PoolID, down); up || !known {
				t.Errorf("MemberUp before Apply = %v, %v", up, known)
			}
			if _, err := n.Stats(b.PoolID); err != nil {
				t.Error(err)
			}
			*at = failAt{}
			w.apply(n, b)
			// Nobody can read whose the timer is, so every daemon takes it once.
			if want := []string{"start expiry timer"}; !slices.Equal(at.steps, want) {
				t.Errorf("the same again changed %q, want %q", at.steps, want)
			}
			w.wantAsApplied(n, at, &b, b.PoolID)
			wantSame(t, before, identities(t, n, b.PoolID))
			if again := serialsOf(t, n, b.PoolID); fmt.Sprint(again) != fmt.Sprint(serials) {
				t.Errorf("serials were %v, are %v", serials, again)
			}
			if s, err := n.Status(b.PoolID); err != nil || s.Hook != hook || s.MembersUp != 1 || s.MembersTotal != 2 {
				t.Errorf("Status = %+v, %v", s, err)
			}
			w.remove(n, b)
			w.wantNothingLeft()
		})
	}
}

func serialsOf(t testing.TB, n *Node, pool string) map[string]uint32 {
	t.Helper()
	serials := map[string]uint32{}
	for _, m := range n.find(pool).membersNow() {
		serials[m.id] = m.serial
	}
	return serials
}

// Programs of another build are replaced under the link that is there.
func TestUpgrade(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	w.apply(n, b)
	before := identities(t, n, b.PoolID)
	w.close(n)

	// To the new daemon, what it finds is of another build.
	root := filepath.Join(poolPins(w.opts.BPFFS, b.PoolID), programPins)
	if err := os.Rename(filepath.Join(root, n.objects[ipv4].build), filepath.Join(root, "0123456789ab")); err != nil {
		t.Fatal(err)
	}
	n = w.open()
	w.apply(n, b)
	after := identities(t, n, b.PoolID)
	tcx := filepath.Join(linkPins, linkTCX)
	if linkOf(before[tcx]) != linkOf(after[tcx]) || before[tcx] == after[tcx] {
		t.Errorf("link and program were %s, are %s", before[tcx], after[tcx])
	}
	for name, id := range before {
		if strings.HasPrefix(name, mapPins) && !strings.HasSuffix(name, rodataPin) && after[name] != id {
			t.Errorf("%s: was %s, is %s", name, id, after[name])
		}
	}
	if builds, err := n.find(b.PoolID).pins.List(programPins); err != nil || len(builds) != 1 {
		t.Errorf("builds pinned: %q, %v", builds, err)
	}
	w.remove(n, b)
	w.wantNothingLeft()
}

// linkOf is the link's id of what identities says of a link.
func linkOf(id string) string { return strings.Fields(id)[0] }

func TestSecondDaemonIsKeptOut(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	for name, change := range map[string]func(*Options){
		"same":             func(*Options) {},
		"same bpffs only":  func(o *Options) { o.RunDir = filepath.Join(t.TempDir(), "other") },
		"same run dir":     func(o *Options) { o.BPFFS += "-other" },
		"other state only": func(o *Options) { o.StateDir = t.TempDir() },
	} {
		opts := w.opts
		change(&opts)
		second, err := Open(t.Context(), opts)
		if err == nil {
			second.Close()
		}
		if !errors.Is(err, ErrLocked) || !strings.Contains(fmt.Sprint(err), "process "+strconv.Itoa(os.Getpid())) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.close(n)
	w.open()
}

// A process that a killed daemon was about to start holds its lock for a moment longer.
func TestLockOutlivesDaemon(t *testing.T) {
	dir := t.TempDir()
	left, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(left.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(lockWait/10, func() { left.Close() })
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestUnknownLayout(t *testing.T) {
	w := newWorld(t)
	w.close(w.open())
	for _, dir := range []string{
		filepath.Join(poolRoot(w.opts.BPFFS, newUUID(t)), layoutName(maps.Layout+1)),
		filepath.Join(nodeRoot(w.opts.BPFFS), layoutName(maps.Layout+1)),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		n, err := Open(t.Context(), w.opts)
		if err == nil {
			n.Close()
		}
		if !errors.Is(err, ErrLayout) || !strings.Contains(fmt.Sprint(err), dir) {
			t.Errorf("%s: %v", dir, err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
}

// Open mounts a bpffs where there is none.
func TestBPFFSIsMounted(t *testing.T) {
	w := newWorld(t)
	w.opts.BPFFS = filepath.Join(t.TempDir(), "bpffs")
	n := w.open()
	if on, err := onBPFFS(w.opts.BPFFS); err != nil || !on {
		t.Errorf("onBPFFS = %v, %v", on, err)
	}
	w.close(n)
	w.unmount(w.opts.BPFFS)
}
