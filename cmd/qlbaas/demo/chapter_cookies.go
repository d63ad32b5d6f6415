package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// arrivals is how many visitors come.
const arrivals = 8

// ownCookie: visitors behind one address stay where the balancer's cookie says.
func (d *demo) ownCookie(ctx context.Context) error {
	d.say("Many visitors can share one address. Cookies tell them apart, and have to be read: a\n" +
		"sidecar does it, an unprivileged process inside the pool's namespace.")
	if err := d.persist(ctx, "type=HTTP_COOKIE"); err != nil {
		return err
	}
	if err := d.tellSidecar(ctx); err != nil {
		return err
	}
	all, err := d.visitors(arrivals)
	if err != nil {
		return err
	}
	for i, v := range all {
		header, err := v.visit(ctx, "/")
		if err != nil {
			return err
		}
		if i == 0 {
			d.saw("Set-Cookie: %s", header.Get("Set-Cookie"))
		}
		if v.cookie("SRV") == "" {
			return fmt.Errorf("visitor %d got no cookie: %v", i+1, header)
		}
	}
	who := places(all)
	if err := alternate(who, "WEB1", "WEB2"); err != nil {
		return err
	}
	d.saw("%d visitors from %s: %s", arrivals, d.net.ClientAddress, strings.Join(who, " "))
	const times = 5
	if err := mustStay(ctx, all, times); err != nil {
		return err
	}
	d.saw("%d more requests of each: all stay where they are", times)
	if err := d.loseMember(ctx, all); err != nil {
		return err
	}
	return d.killSidecar(ctx, all)
}

// persist sets the VIP's persistence and waits until it is so.
func (d *demo) persist(ctx context.Context, how string) error {
	if err := d.change(ctx, "vip", "update", vipName, "--session-persistence", how); err != nil {
		return err
	}
	return d.settle(ctx)
}

// loseMember: who was at WEB1 moves to WEB2 without having seen an error, and stays there.
func (d *demo) loseMember(ctx context.Context, all []*visitor) error {
	web, moved := d.webs["WEB1"], atMember(all, "WEB1")
	d.say("WEB1 stops.")
	d.typed("kill", "-USR1", strconv.Itoa(web.process.Pid()))
	began := time.Now()
	if err := web.refuse(ctx); err != nil {
		return err
	}
	for asked := 0; len(atMember(moved, "WEB2")) < len(moved); asked++ {
		if time.Since(began) > downRefused {
			return fmt.Errorf("after %s WEB1 still answers, bound %s", since(began), downRefused)
		}
		v := moved[asked%len(moved)]
		if _, err := v.visit(ctx, "/"); err != nil {
			return fmt.Errorf("while WEB1 goes away: %w", err)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	d.saw("after %s its %d visitors are at WEB2, and none has seen an error", since(began), len(moved))
	if err := d.memberStatus(ctx, "WEB1", "INACTIVE"); err != nil {
		return err
	}
	if err := web.answer(ctx); err != nil {
		return err
	}
	if err := d.memberStatus(ctx, "WEB1", "ACTIVE"); err != nil {
		return err
	}
	if err := mustStay(ctx, all, 1); err != nil {
		return err
	}
	d.saw("WEB1 is back; who has a cookie stays where it is")
	return nil
}

// sidecarBack is how soon a sidecar that was killed has a successor.
const sidecarBack = time.Second

// killSidecar: clients wait a moment, and find the same member again.
func (d *demo) killSidecar(ctx context.Context, all []*visitor) error {
	pid, err := d.sidecar(ctx)
	if err != nil {
		return err
	}
	d.typed("kill", "-9", strconv.Itoa(pid))
	began := time.Now()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill sidecar: %w", err)
	}
	late := all[0]
	late.client.CloseIdleConnections() // they died with it
	if err := mustStay(ctx, all[:1], 1); err != nil {
		return err
	}
	took := time.Since(began)
	if took > sidecarBack {
		return fmt.Errorf("after the kill a request took %s, bound %s", took.Round(time.Millisecond), sidecarBack)
	}
	for _, v := range all {
		v.client.CloseIdleConnections()
	}
	if err := mustStay(ctx, all, 1); err != nil {
		return err
	}
	d.saw("the next request was answered after %s, and every visitor is where it was", took.Round(time.Millisecond))
	return nil
}

// tellSidecar shows the process.
func (d *demo) tellSidecar(ctx context.Context) error {
	pid, err := d.sidecar(ctx)
	if err == nil {
		d.saw("the pool's sidecar is process %d", pid)
	}
	return err
}

// sidecar is the process that reads cookies, by the agent's status.
func (d *demo) sidecar(ctx context.Context) (pid int, err error) {
	err = until(ctx, patience, func() error {
		status, err := d.status(ctx)
		if err != nil {
			return fatal(err)
		}
		found, _ := d.pool(status)["sidecar"].(map[string]any)
		n, _ := found["pid"].(json.Number)
		if id, err := n.Int64(); err == nil && id > 0 {
			pid = int(id)
			return nil
		}
		return fmt.Errorf("the pool's status names no sidecar: %v", found)
	})
	return pid, err
}

// applicationCookie: visitors stay where their session is, by the cookie that the
// application gave them, and the kernel takes over again where no cookie is to be read.
func (d *demo) applicationCookie(ctx context.Context) error {
	d.say("An application that keeps sessions has a cookie of its own. The balancer learns which\n" +
		"member has set it, and leaves it as it is.")
	if err := d.persist(ctx, "type=APP_COOKIE,cookie_name="+sessionCookie); err != nil {
		return err
	}
	all, err := d.visitors(arrivals)
	if err != nil {
		return err
	}
	for _, v := range all {
		if _, err := v.visit(ctx, "/login"); err != nil {
			return err
		}
		if want := strings.ToLower(v.at) + "-"; !strings.HasPrefix(v.cookie(sessionCookie), want) {
			return fmt.Errorf("%s set the cookie %q", v.at, v.cookie(sessionCookie))
		}
	}
	d.saw("%d visitors log in: %s", arrivals, strings.Join(places(all), " "))
	d.saw("Cookie: %s=%s", sessionCookie, all[0].cookie(sessionCookie))
	const times = 5
	if err := mustStay(ctx, all, times); err != nil {
		return err
	}
	d.saw("%d more requests of each: all stay where their session is", times)
	d.say("Without cookies to read, the kernel balances again; nobody needs the sidecar.")
	if err := d.persist(ctx, "action=clear"); err != nil {
		return err
	}
	for _, v := range all {
		v.client.CloseIdleConnections()
	}
	return d.mustAlternate(ctx)
}
