package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// Bounds of healing.
const (
	programHeals = 2 * time.Second
	anyHeals     = 5 * time.Second
)

// sabotage is something that an operator or another program can do to a balancer.
type sabotage struct {
	name  string
	bound time.Duration // anyHeals if 0
	do    func(w *world, b *balancer)
	// healed returns nil when it is undone.
	healed func(w *world, b *balancer) error
	// hooked: how it is mended depends on the hook.
	hooked bool
}

// inside runs a command in a balancer's namespace.
func (w *world) inside(b *balancer, command ...string) string {
	w.t.Helper()
	out, err := w.tryInside(b, command...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// tryInside uses nsenter, for `ip netns exec` hides the bpffs.
func (w *world) tryInside(b *balancer, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.Router.Run(ctx, "nsenter", append([]string{"--net=/run/netns/" + b.netns()}, command...)...)
}

// says is a check that a command inside prints a text.
func says(text string, command ...string) func(*world, *balancer) error {
	return func(w *world, b *balancer) error {
		out, err := w.tryInside(b, words(b, command)...)
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("%v does not say %q: %s", command, text, out)
		}
		return err
	}
}

// runs is something done by a command inside.
func runs(command ...string) func(*world, *balancer) {
	return func(w *world, b *balancer) { w.t.Helper(); w.inside(b, words(b, command)...) }
}

// words puts device names for INSIDE and OUTSIDE.
func words(b *balancer, command []string) []string {
	replaced := make([]string, len(command))
	for i, word := range command {
		replaced[i] = strings.NewReplacer("INSIDE", b.inside(), "OUTSIDE", b.outside(), "NAMESPACE", b.netns()).Replace(word)
	}
	return replaced
}

// onNode is runs on the agent's host.
func onNode(command ...string) func(*world, *balancer) {
	return func(w *world, b *balancer) {
		w.t.Helper()
		command := words(b, command)
		if _, err := w.Node.Run(bounded(w.t, patience), command[0], command[1:]...); err != nil {
			w.t.Fatal(err)
		}
	}
}

// nodeSays is says on the agent's host.
func nodeSays(text string, command ...string) func(*world, *balancer) error {
	return func(w *world, b *balancer) error {
		command := words(b, command)
		out, err := w.Node.Run(w.t.Context(), command[0], command[1:]...)
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("%v does not say %q: %s", command, text, out)
		}
		return err
	}
}

func sabotages() []sabotage {
	bridged := nodeSays("master "+lab.BridgeName, "ip", "link", "show", "OUTSIDE")
	inside := func(text string) func(*world, *balancer) error {
		return says(text, "ip", "addr", "show", "dev", "INSIDE")
	}
	return []sabotage{
		{name: "program detached", hooked: true, bound: programHeals, do: (*world).detach, healed: (*world).attached},
		{name: "pins removed", hooked: true, do: unpins(""), healed: allOf(pinned("maps/flows"), (*world).attached)},
		{name: "maps unpinned", do: unpins("maps"), healed: pinned("maps/vips")},
		{name: "programs unpinned", do: unpins("programs"), healed: pinned("programs")},
		{name: "addresses flushed", do: runs("ip", "addr", "flush", "dev", "INSIDE"), healed: inside("172.16.100.11/24")},
		{name: "address added", do: runs("ip", "addr", "add", "172.16.100.250/24", "dev", "INSIDE"), healed: not(inside("172.16.100.250"))},
		{name: "routes flushed", do: runs("ip", "route", "flush", "table", "main"), healed: says("default via 172.16.100.1", "ip", "route")},
		{name: "guard flushed", do: runs("nft", "flush", "ruleset"), healed: says("172.16.100.11 tcp dport", "nft", "list", "ruleset")},
		{name: "inside down", do: runs("ip", "link", "set", "INSIDE", "down"), healed: inside("state UP")},
		{name: "another MAC", do: runs("ip", "link", "set", "INSIDE", "address", "02:00:00:00:00:99"), healed: inside("fa:16:3e")},
		{
			name:   "inside renamed",
			do:     both(runs("ip", "link", "set", "INSIDE", "down"), runs("ip", "link", "set", "INSIDE", "name", "elsewhere")),
			healed: inside("state UP"),
		},
		{
			name: "outside down", do: onNode("ip", "link", "set", "OUTSIDE", "down"),
			healed: nodeSays("state UP", "ip", "link", "show", "OUTSIDE"),
		},
		{name: "off the bridge", do: onNode("ip", "link", "set", "OUTSIDE", "nomaster"), healed: bridged},
		{name: "devices deleted", hooked: true, do: onNode("ip", "link", "del", "OUTSIDE"), healed: allOf(bridged, (*world).attached)},
		{name: "namespace deleted", do: onNode("ip", "netns", "del", "NAMESPACE"), healed: says("172.16.100.11/24", "ip", "addr")},
		{name: "members zeroed", do: zeroes("members"), healed: works},
		{name: "schedules zeroed", do: zeroes("schedules"), healed: works},
		{name: "VIP zeroed", do: zeroes("vips"), healed: works},
		{name: "health zeroed", do: zeroes("health"), healed: works},
	}
}

// allOf is a check that all of several pass.
func allOf(checks ...func(*world, *balancer) error) func(*world, *balancer) error {
	return func(w *world, b *balancer) error {
		for _, check := range checks {
			if err := check(w, b); err != nil {
				return err
			}
		}
		return nil
	}
}

// not is a check that another one fails.
func not(check func(*world, *balancer) error) func(*world, *balancer) error {
	return func(w *world, b *balancer) error {
		if check(w, b) == nil {
			return errors.New("it is still so")
		}
		return nil
	}
}

func both(first, second func(*world, *balancer)) func(*world, *balancer) {
	return func(w *world, b *balancer) {
		w.t.Helper()
		first(w, b)
		second(w, b)
	}
}

// TestSabotage: whatever is done to a running balancer is mended in time and costs
// no connection.
func TestSabotage(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
		w.expect("") // of course the agent complains
		flows := b.openMany(10)
		for _, s := range sabotages() {
			if w.hook != "tcx" && !s.hooked {
				continue
			}
			if s.bound == 0 {
				s.bound = anyHeals
			}
			w.test(s.name, func(w *world) {
				b := *b
				b.w = w
				s.do(w, &b)
				took, err := labtest.Eventually(patience, func() error { return s.healed(w, &b) })
				if err != nil {
					w.t.Fatal(err)
				}
				w.t.Logf("mended after %s", took)
				if took > s.bound {
					w.t.Errorf("mended after %s, want %s at most", took, s.bound)
				}
				w.mustEcho(flows...)
				until(w.t, anyHeals, func() error { return works(w, &b) })
			})
		}
	})
}

// works returns nil when new connections can be made, to both members.
func works(w *world, b *balancer) error {
	seen := map[string]bool{}
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		f, err := b.dial(ctx, w.Client, w.ClientAddress)
		cancel()
		if err != nil {
			return err
		}
		f.close()
		seen[f.member] = true
	}
	if len(seen) != 2 {
		return fmt.Errorf("all went to %v", seen)
	}
	return nil
}

// detach takes the programs away from the balancer's device.
func (w *world) detach(b *balancer) {
	w.t.Helper()
	pins, err := filepath.Glob(b.pin("links", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, pin := range pins {
		if err := lab.DetachPin(pin); err != nil {
			w.t.Fatal(err)
		}
	}
	if w.hook == "clsact" {
		w.inside(b, "tc", "qdisc", "del", "dev", b.inside(), "clsact")
	}
}

// attached returns nil when all programs are where they belong.
func (w *world) attached(b *balancer) error {
	if w.hook == "clsact" {
		return says("tc_lb", "tc", "filter", "show", "dev", "INSIDE", "ingress")(w, b)
	}
	want := map[string][]string{"tcx": {"tcx"}, "xdp": {"tcx", "xdp", "xdp_peer"}}[w.hook]
	for _, name := range want {
		l, err := link.LoadPinnedLink(b.pin("links", name), nil)
		if err != nil {
			return err
		}
		info, err := l.Info()
		l.Close()
		switch {
		case err != nil:
			return err
		case info.TCX() != nil && info.TCX().Ifindex == 0, info.XDP() != nil && info.XDP().Ifindex == 0:
			return fmt.Errorf("link %s is attached nowhere", name)
		}
	}
	return nil
}

// unpins removes the pins in a directory.
func unpins(directory string) func(*world, *balancer) {
	return func(w *world, b *balancer) {
		w.t.Helper()
		if err := os.RemoveAll(b.pin(directory, "")); err != nil {
			w.t.Fatal(err)
		}
	}
}

// pinned is a check that something is there.
func pinned(path string) func(*world, *balancer) error {
	return func(_ *world, b *balancer) error {
		_, err := os.Lstat(b.pin(path, ""))
		return err
	}
}

// zeroes overwrites every entry of a configuration map, or of its inner maps.
func zeroes(name string) func(*world, *balancer) {
	return func(w *world, b *balancer) {
		w.t.Helper()
		pins, err := filepath.Glob(b.pin("maps", name+"*"))
		if err != nil || len(pins) == 0 {
			w.t.Fatalf("no map %s is pinned: %v", name, err)
		}
		for _, pin := range pins {
			if err := zero(pin); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func zero(pin string) error {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	if m.Type() != ebpf.Array {
		return nil // the outer one
	}
	for i := range m.MaxEntries() {
		if err := m.Put(i, make([]byte, m.ValueSize())); err != nil {
			return err
		}
	}
	return nil
}
