package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
)

// balancerOptions of a balancer; the zero value is round robin over the members' web
// servers at the story's address.
type balancerOptions struct {
	// method is ROUND_ROBIN unless it is given.
	method string
	// persistence is a type, or empty for none.
	persistence string
	// endpoints of the members; nil means the web servers.
	endpoints []netip.AddrPort
	// weights by endpoint; 1 where there is none.
	weights []int
	// at is the VIP's address and port; by default the story's.
	at netip.AddrPort
	// subnet other than the world's.
	subnet string
	// pool and vip are further attributes.
	pool, vip object
}

// balancer is a pool with its VIP and members.
type balancer struct {
	w       *world
	id, vip string
	port    string // of the VIP
	at      netip.AddrPort
	members []string
	client  *http.Client
	// scheme that clients use, http unless the test says otherwise.
	scheme string
}

// balance creates a balancer and waits until it is deployed. When the test ends its
// connections have to be counted out, and nothing may be left of it.
func (w *world) balance(o balancerOptions) *balancer {
	w.t.Helper()
	if o.method == "" {
		o.method = "ROUND_ROBIN"
	}
	if o.endpoints == nil {
		o.endpoints = w.endpoints(webPort)
	}
	if !o.at.IsValid() {
		o.at = netip.AddrPortFrom(w.VIP, webPort)
	}
	if o.subnet == "" {
		o.subnet = w.subnet
	}
	b := &balancer{w: w, at: o.at, scheme: "http", client: w.Client.HTTPClient(lab.HTTPOptions{})}
	pool := object{"name": w.t.Name(), "subnet_id": o.subnet, "protocol": "TCP", "lb_method": o.method}
	maps.Copy(pool, o.pool)
	b.id = w.create(pools, pool).text("id")
	w.pools = append(w.pools, b.id)
	w.t.Cleanup(b.close)
	for i, e := range o.endpoints {
		weight := 1
		if i < len(o.weights) {
			weight = o.weights[i]
		}
		b.addMember(e, weight)
	}
	vip := object{
		"name": w.t.Name(), "pool_id": b.id, "subnet_id": o.subnet, "protocol": pool["protocol"],
		"address": o.at.Addr().String(), "protocol_port": o.at.Port(),
	}
	if o.persistence != "" {
		vip["session_persistence"] = object{"type": o.persistence}
	}
	maps.Copy(vip, o.vip)
	made := w.create(vips, vip)
	b.vip, b.port = made.text("id"), made.text("port_id")
	b.settle()
	return b
}

// addMember adds a member without waiting for it, and returns its id.
func (b *balancer) addMember(at netip.AddrPort, weight int) string {
	b.w.t.Helper()
	m := b.w.create(members, object{
		"pool_id": b.id, "address": at.Addr().String(), "protocol_port": at.Port(), "weight": weight,
	})
	b.members = append(b.members, m.text("id"))
	return m.text("id")
}

// settle waits until nothing of the balancer is pending, and fails for an ERROR.
func (b *balancer) settle() {
	b.w.t.Helper()
	until(b.w.t, patience, func() error {
		objects := []object{b.w.show(pools, b.id)}
		if b.vip != "" {
			objects = append(objects, b.w.show(vips, b.vip))
		}
		objects = append(objects, b.listMembers()...)
		for _, o := range objects {
			switch status := o.text("status"); {
			case status == "ERROR":
				b.w.t.Fatalf("%v is in ERROR", o)
			case strings.HasPrefix(status, "PENDING"):
				return fmt.Errorf("%v is pending", o)
			}
		}
		associations, _ := objects[0]["health_monitors_status"].([]any)
		for _, one := range associations {
			a, _ := one.(map[string]any)
			if status := object(a).text("status"); status != "ACTIVE" {
				return fmt.Errorf("monitor of %v is %s", a, status)
			}
		}
		return nil
	})
}

func (b *balancer) listMembers() []object {
	b.w.t.Helper()
	list, _ := b.w.call(http.StatusOK, "GET", members.path+"?pool_id="+b.id, nil)["members"].([]any)
	var all []object
	for _, one := range list {
		m, _ := one.(map[string]any)
		all = append(all, m)
	}
	return all
}

// generation counts the configurations that the kernel has been given.
func (b *balancer) generation() float64 {
	b.w.t.Helper()
	return b.w.status(b.id).number("generation")
}

// change does something that changes what the kernel has to know, and waits until
// it knows.
func (b *balancer) change(do func()) {
	b.w.t.Helper()
	before := b.generation()
	do()
	b.settle()
	until(b.w.t, patience, func() error {
		if now := b.generation(); now <= before {
			return fmt.Errorf("generation is still %v", now)
		}
		return nil
	})
}

// setVIP, setPool and setMember change attributes and wait until they hold.
func (b *balancer) setVIP(attributes object) {
	b.w.t.Helper()
	b.w.update(vips, b.vip, attributes)
	b.settle()
}

func (b *balancer) setPool(attributes object) {
	b.w.t.Helper()
	b.w.update(pools, b.id, attributes)
	b.settle()
}

func (b *balancer) setMember(i int, attributes object) {
	b.w.t.Helper()
	b.w.update(members, b.members[i], attributes)
	b.settle()
}

// dropMember removes a member and waits until the kernel knows.
func (b *balancer) dropMember(i int) {
	b.w.t.Helper()
	b.change(func() { b.w.remove(members, b.members[i]) })
	b.members = append(b.members[:i:i], b.members[i+1:]...)
}

// monitor creates a monitor, associates it, and returns its id.
func (b *balancer) monitor(attributes object) string {
	b.w.t.Helper()
	id := b.w.create(monitors, attributes).text("id")
	b.w.call(http.StatusCreated, "POST", pools.path+"/"+b.id+"/health_monitors", object{"health_monitor": object{"id": id}})
	b.settle()
	return id
}

// dropMonitor disassociates and deletes a monitor.
func (b *balancer) dropMonitor(id string) {
	b.w.t.Helper()
	b.w.call(http.StatusNoContent, "DELETE", pools.path+"/"+b.id+"/health_monitors/"+id, nil)
	b.w.remove(monitors, id)
}

// awaitMember waits until the monitors' verdict on a member is its status, by when
// the kernel must have it, and returns how long that took.
func (b *balancer) awaitMember(i int, up bool) time.Duration {
	b.w.t.Helper()
	want, flag := "INACTIVE", 0.0
	if up {
		want, flag = "ACTIVE", 1
	} else {
		b.w.expect("member is down")
	}
	took := until(b.w.t, patience, func() error {
		if status := b.w.show(members, b.members[i]).text("status"); status != want {
			return fmt.Errorf("member %d is %s, want %s", i, status, want)
		}
		return nil
	})
	if is := b.w.scrape().value("qlbaas_member_up", "pool", b.id, "member", b.members[i]); is != flag {
		b.w.t.Errorf("member %d is %s, and up in the kernel is %v", i, want, is)
	}
	return took
}

// stats are the API's counters.
func (b *balancer) stats() object {
	b.w.t.Helper()
	return b.w.inner(b.w.call(http.StatusOK, "GET", pools.path+"/"+b.id+"/stats", nil), "stats")
}

// drops is how many packets ended for a reason.
func (b *balancer) drops(reason string) float64 {
	b.w.t.Helper()
	return b.w.scrape().value("qlbaas_pool_drops_total", "pool", b.id, "reason", reason)
}

// awaitDrops waits until more than n packets have ended for a reason.
func (b *balancer) awaitDrops(reason string, n float64) {
	b.w.t.Helper()
	until(b.w.t, patience, func() error {
		if now := b.drops(reason); now <= n {
			return fmt.Errorf("%v packets were dropped as %s, want more than %v", now, reason, n)
		}
		return nil
	})
}

// awaitActive waits until so many connections are counted as active.
func (b *balancer) awaitActive(n float64) {
	b.w.t.Helper()
	until(b.w.t, patience, func() error {
		if now := b.stats().number("active_connections"); now != n {
			return fmt.Errorf("%v connections are active, want %v", now, n)
		}
		return nil
	})
}

// beside is an address and port for another balancer.
func (b *balancer) beside(i byte) netip.AddrPort {
	address := b.at.Addr().As4()
	address[3] += 100 + i
	return netip.AddrPortFrom(netip.AddrFrom4(address), b.at.Port())
}

// netns is the balancer's network namespace.
func (b *balancer) netns() string { return "qlbaas-" + b.id }

// inside and outside are its devices.
func (b *balancer) inside() string  { return "ns-" + b.port[:11] }
func (b *balancer) outside() string { return "tap" + b.port[:11] }

// pin is the path of a pin, as in pin("links", "tcx").
func (b *balancer) pin(directory, name string) string {
	return filepath.Join(b.w.bpffs, "pools", b.id, layout, directory, name)
}

// close deletes the balancer. All connections must have been counted out and nothing
// may be left.
func (b *balancer) close() {
	if b.w.process == nil {
		return // the test ended in between; its failure is known
	}
	if b.vip != "" && !b.w.t.Failed() {
		b.awaitActive(0)
		if n := b.drops("internal"); n != 0 {
			b.w.t.Errorf("%v packets were dropped as internal", n)
		}
	}
	pool := b.w.show(pools, b.id)
	if b.vip != "" {
		b.w.remove(vips, b.vip)
	}
	associated, _ := pool["health_monitors"].([]any)
	for _, id := range associated {
		b.dropMonitor(id.(string))
	}
	b.w.remove(pools, b.id)
	until(b.w.t, patience, b.gone)
}

// gone returns nil when nothing of the balancer is left.
func (b *balancer) gone() error {
	if s := b.w.status(b.id); s != nil {
		return fmt.Errorf("the agent still knows %v", s)
	}
	left, err := lab.Namespaces(b.netns())
	if err != nil || len(left) > 0 {
		return fmt.Errorf("namespaces %v are left: %w", left, err)
	}
	for _, path := range []string{filepath.Join(b.w.bpffs, "pools", b.id), filepath.Join(b.w.state, "pools", b.id)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is left: %w", path, err)
		}
	}
	if b.port == "" {
		return nil
	}
	if _, err := b.w.Node.Netlink().LinkByName(b.outside()); !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("device %s is left: %w", b.outside(), err)
	}
	return nil
}
