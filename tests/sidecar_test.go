package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/binary"
	"qlbaas/tests/lab"
)

// mended is how long a sidecar's crash or hang may be noticed by clients.
const mended = time.Second

// What may happen to a sidecar and its agent, and what clients may notice of it.
func TestSidecar(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{})
	w.test("agent killed", sidecarWithoutAgent)
	w.test("killed", sidecarKilled)
	w.test("hangs", sidecarHangs)
	w.test("both killed", sidecarAndAgentKilled)
	w.test("agent killed in between", sidecarHalfway)
	w.test("namespace gone", sidecarNamespaceGone)
	w.test("upgrade", sidecarUpgraded)
	w.test("deleted", sidecarDeleted)
	w.test("capabilities of the unit", sidecarOfUnit)
}

// sidecar is the process id of a balancer's sidecar.
func (b *balancer) sidecar() int {
	b.w.t.Helper()
	view, _ := b.w.status(b.id)["sidecar"].(map[string]any)
	pid := int(object(view).number("pid"))
	if pid == 0 {
		b.w.t.Fatalf("the pool has no sidecar: %v", b.w.status(b.id))
	}
	return pid
}

func (w *world) signal(pid int, s unix.Signal) {
	w.t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		w.t.Fatal(err)
	}
}

// answeredWithin wants new clients to be answered again soon, and none to be refused.
func (b *balancer) answeredWithin(bound time.Duration) {
	b.w.t.Helper()
	start := time.Now()
	b.ask(1)
	if took := time.Since(start); took > bound {
		b.w.t.Errorf("an answer took %s", took)
	}
}

// sidecarWithoutAgent: clients do not notice that there is no agent, and the next one
// finds the same process, the same cookies and the counters of all the time.
func sidecarWithoutAgent(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	pid := b.sidecar()
	browser := w.browser(true)
	had := w.only(b.askBy(browser, 3))
	w.kill9()
	if now := w.only(b.askBy(browser, 3)); now != had {
		w.t.Errorf("had %s, and without agent %s", had, now)
	}
	if err := inTurn(b.ask(20), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
	load := b.load(200)
	w.start()
	load.end(w)
	if now := b.sidecar(); now != pid {
		w.t.Errorf("process %d was replaced by %d", pid, now)
	}
	if now := w.only(b.askBy(browser, 3)); now != had {
		w.t.Errorf("had %s, and with another agent %s", had, now)
	}
	if n := b.stats().number("total_connections"); n < 221 {
		w.t.Errorf("%v connections are counted", n)
	}
	b.setVIP(object{"name": "renamed"})
	b.setMember(0, object{"weight": 2})
	if n := tally(b.ask(30)); n["WEB1"] != 20 {
		w.t.Errorf("weights 2 and 1: %v", n)
	}
	browser.CloseIdleConnections()
}

// sidecarKilled: who comes meanwhile waits, and cookies are still known.
func sidecarKilled(w *world) {
	w.expect("sidecar has failed")
	b := w.balanceByCookie(balancerOptions{})
	browser := w.browser(false)
	had := w.only(b.askBy(browser, 3))
	asked := 3.0
	for range 2 {
		// What was counted in the last moment is lost with the process.
		if n := b.stats().number("total_connections"); n != asked {
			w.t.Errorf("%v connections are counted, %v were made", n, asked)
		}
		pid := b.sidecar()
		w.signal(pid, unix.SIGKILL)
		b.answeredWithin(mended)
		b.awaitSidecarAfter(pid)
		if now := w.only(b.askBy(browser, 3)); now != had {
			w.t.Errorf("had %s, now %s", had, now)
		}
		asked += 4
	}
	if n := w.scrape().value("qlbaas_sidecar_restarts_total", "pool", b.id); n != 2 {
		w.t.Errorf("%v restarts", n)
	}
}

func sidecarHangs(w *world) {
	w.expect("sidecar has failed")
	b := w.balanceByCookie(balancerOptions{})
	pid := b.hang()
	b.answeredWithin(mended)
	b.awaitSidecarAfter(pid)
}

// hang stops the balancer's sidecar, so that it accepts nobody any more, and returns its
// process id.
func (b *balancer) hang() int {
	b.w.t.Helper()
	pid := b.sidecar()
	b.w.signal(pid, unix.SIGSTOP)
	until(b.w.t, patience, func() error { return lab.Stopped(pid) })
	return pid
}

// sidecarAndAgentKilled: what died without an agent comes back with the next one.
func sidecarAndAgentKilled(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	browser := w.browser(false)
	had := w.only(b.askBy(browser, 3))
	pid := b.sidecar()
	w.kill9()
	w.signal(pid, unix.SIGKILL)
	w.start()
	b.settle()
	if now := w.only(b.askBy(browser, 3)); now != had {
		w.t.Errorf("had %s, now %s", had, now)
	}
}

// awaitSidecarAfter waits for another process.
func (b *balancer) awaitSidecarAfter(pid int) {
	b.w.t.Helper()
	until(b.w.t, patience, func() error {
		if now := b.sidecar(); now == pid {
			return fmt.Errorf("it is still process %d", now)
		}
		return nil
	})
}

// sidecarNamespaceGone: a sidecar outside of the pool's namespace is of no use.
func sidecarNamespaceGone(w *world) {
	w.expect("pool no longer looks as it was applied")
	w.expect("sidecar is outside of its pool's namespace")
	b := w.balanceByCookie(balancerOptions{})
	b.ask(1)
	vanish := func() {
		w.t.Helper()
		out, err := exec.CommandContext(bounded(w.t, patience), "ip", "netns", "delete", b.netns()).CombinedOutput()
		if err != nil {
			w.t.Fatalf("%v: %s", err, out)
		}
	}
	answered := func() {
		w.t.Helper()
		until(w.t, patience, func() error {
			_, err := b.request(b.client)
			return err
		})
	}
	vanish()
	answered()
	until(w.t, patience, func() error {
		if found, err := lab.Namespaces(b.netns()); err != nil || len(found) == 0 {
			return fmt.Errorf("the namespace has no name yet: %w", err)
		}
		return nil
	})
	w.kill9()
	vanish()
	w.start()
	b.settle()
	answered()
}

// sidecarUpgraded: the program of another version takes the listener over, and every
// request under way is answered.
func sidecarUpgraded(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	browser := w.browser(true)
	had := w.only(b.askBy(browser, 3))
	pid := b.sidecar()
	old := binary.Path()
	next := filepath.Join(w.t.TempDir(), "qlbaas")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=next", "-o", next, "qlbaas/cmd/qlbaas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	upgrade := func(program string) {
		w.t.Helper()
		w.t.Setenv(binary.Var, program)
		w.stop()
		w.start()
		if now := b.sidecar(); now == pid {
			w.t.Errorf("it is still process %d", pid)
		}
		pid = b.sidecar()
	}
	load := b.load(400)
	upgrade(next)
	answers := load.end(w)
	if now := w.only(b.askBy(browser, 3)); now != had {
		w.t.Errorf("had %s, now %s", had, now)
	}
	browser.CloseIdleConnections()
	b.awaitActive(0)
	until(w.t, patience, func() error { // the old one tells the new one once a second
		if n := b.stats().number("total_connections"); n != float64(answers+2) {
			return fmt.Errorf("%v connections are counted, %d were made", n, answers+2)
		}
		return nil
	})
	load = b.load(100)
	upgrade(old)
	load.end(w)
}

// sidecarDeleted: with its VIP it goes, and with it all of its files.
func sidecarDeleted(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	browser := w.browser(true)
	b.askBy(browser, 1)
	pid := b.sidecar()
	w.remove(vips, b.vip)
	b.vip = ""
	until(w.t, patience, func() error {
		if unix.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
	until(w.t, patience, func() error {
		left, err := filepath.Glob(filepath.Join(w.run, "l7", b.id+"*"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%v are left", left)
		}
		return err
	})
	if n := b.stats().number("total_connections"); n != 1 {
		w.t.Errorf("%v connections are counted", n)
	}
}

// sidecarOfUnit: the agent can do all of this with the capabilities that its unit file
// leaves to it.
func sidecarOfUnit(w *world) {
	unit, err := os.ReadFile("../cmd/qlbaas/qlbaas.service")
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	line, _, _ := strings.Cut(rest, "\n")
	if !found {
		w.t.Fatal("the unit does not bound capabilities")
	}
	set := "-all"
	for name := range strings.FieldsSeq(strings.ToLower(line)) {
		set += ",+" + strings.TrimPrefix(name, "cap_")
	}
	program, wrapper := binary.Path(), filepath.Join(w.t.TempDir(), "agent")
	script := fmt.Sprintf("#!/bin/sh\nexec setpriv --bounding-set=%s --no-new-privs %s \"$@\"\n", set, program)
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.t.Setenv(binary.Var, wrapper)
	w.stop()
	w.start()
	w.expect("sidecar has failed")
	b := w.balanceByCookie(balancerOptions{})
	b.ask(1)
	pid := b.hang()
	b.answeredWithin(patience)
	b.awaitSidecarAfter(pid)
	w.restart()
	b.ask(1)
	b.setVIP(object{"session_persistence": nil})
	b.ask(1)
	w.t.Setenv(binary.Var, program)
	w.stop()
	w.start()
}
