package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"qlbaas/tests/lab"
)

// lookInside looks at the balancer from all sides and compares it with the story.
func (d *demo) lookInside(ctx context.Context) error {
	for _, look := range []func(context.Context) error{
		d.lookAtNamespace, d.lookAtPort, d.lookAtState, d.lookAtPins, d.lookAtMaps, d.lookAtFlows, d.lookAtStats, d.lookAtStatus,
	} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) lookAtNamespace(context.Context) error {
	names, err := lab.Namespaces("")
	if err != nil {
		return err
	}
	d.typed("ip", "netns")
	for _, name := range names {
		if slices.Contains(hosts(), name) || name == poolNamespace(d.poolID) {
			d.saw("%s", name)
		}
	}
	if err := d.mustHaveNamespace(true); err != nil {
		return err
	}
	d.typed("ip", "netns", "exec", poolNamespace(d.poolID), "ip", "addr")
	devices, err := devicesIn(poolNamespace(d.poolID))
	if err != nil {
		return err
	}
	want := netip.PrefixFrom(d.net.VIP, d.net.Subnet.Bits()).String()
	var found bool
	for _, one := range devices {
		if one.name == "lo" {
			continue
		}
		d.saw("%s  up %v  %s  %s", one.name, one.up, one.mac, strings.Join(one.addresses, " "))
		found = found || one.name == d.insideDevice() && one.up && slices.Contains(one.addresses, want)
	}
	if !found {
		return fmt.Errorf("no device %s that is up and has the VIP's address %s", d.insideDevice(), want)
	}
	return nil
}

func (d *demo) lookAtPort(ctx context.Context) error {
	ports, err := d.list(ctx, "port", "list", "--network-id", d.networkID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		addresses, err := json.Marshal(p["fixed_ips"])
		if err != nil {
			return fmt.Errorf("read port: %w", err)
		}
		d.saw("%s  %s  %s  %s", p.text("id"), p.text("mac_address"), addresses, p.text("device_owner"))
		if p.text("id") == d.portID && p.text("device_owner") == "neutron:LOADBALANCER" &&
			strings.Contains(string(addresses), d.net.VIP.String()) {
			return nil
		}
	}
	return fmt.Errorf("the VIP's port %s with its address is not in the list", d.portID)
}

func (d *demo) lookAtState(context.Context) error {
	dir := filepath.Join(d.place.state, "pools", d.poolID)
	d.typed("ls", dir)
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return fmt.Errorf("read the applied configuration: %w", err)
	}
	if !json.Valid(text) {
		return errors.New("the applied configuration is no JSON")
	}
	d.saw("config.json: %d bytes, the configuration as it was applied", len(text))
	return nil
}

func (d *demo) lookAtPins(context.Context) error {
	attached, err := d.attachments()
	if err != nil {
		return err
	}
	d.typed("ip", "netns", "exec", poolNamespace(d.poolID), "bpftool", "net")
	d.saw("%s", numbers(attached))
	names, err := d.pins("maps")
	if err != nil {
		return err
	}
	d.typed("ls", d.pinDir("maps"))
	d.saw("%s", wrap(names, 74))
	return nil
}

// lookAtMaps reads what the program in the kernel goes by.
func (d *demo) lookAtMaps(context.Context) error {
	vips, err := d.rows("vips_0", "", "vip", 1)
	if err != nil {
		return err
	}
	if len(vips) != 1 {
		return fmt.Errorf("the map of the VIP has %d rows, want 1", len(vips))
	}
	vip := vips[0].Value
	d.typed("bpftool", "map", "dump", "pinned", d.pinDir("maps")+"/vips_0")
	d.saw("%s", wrap(strings.Fields(vip.String()), 74))
	if vip.Get("addr") != d.net.VIP || vip.Get("port") != uint64(80) || vip.Get("id") != d.vipID {
		return fmt.Errorf("the map holds VIP %v:%v, id %v", vip.Get("addr"), vip.Get("port"), vip.Get("id"))
	}
	name := fmt.Sprintf("members_%v", vip.Get("half"))
	members, err := d.rows(name, "", "member", len(d.net.Members))
	if err != nil {
		return err
	}
	d.typed("bpftool", "map", "dump", "pinned", d.pinDir("maps")+"/"+name)
	for _, m := range d.net.Members[:2] {
		i := slices.IndexFunc(members, func(r lab.Row) bool { return r.Value.Get("addr") == m.Address })
		if i < 0 {
			return fmt.Errorf("the map of the members does not hold %s, %s", m.Name, m.Address)
		}
		d.saw("%s  (%s)", members[i].Value, m.Name)
	}
	return nil
}

// lookAtFlows opens a connection and finds it in the kernel's table.
func (d *demo) lookAtFlows(ctx context.Context) error {
	h, err := d.hold(ctx, "WEB1")
	if err != nil {
		return err
	}
	defer h.Close()
	local, err := netip.ParseAddrPort(h.conn.LocalAddr().String())
	if err != nil {
		return fmt.Errorf("read the connection's address: %w", err)
	}
	d.typed("bpftool", "map", "dump", "pinned", d.pinDir("maps")+"/flows")
	flows, err := d.rows("flows", "flow_key", "flow_entry", 1<<16)
	if err != nil {
		return err
	}
	d.saw("%d entries, two for each connection; those of one from %s:", len(flows), local)
	var toMember, toClient bool
	for _, f := range flows {
		in := f.Key.Get("saddr") == local.Addr() && f.Key.Get("sport") == uint64(local.Port())
		back := f.Value.Get("daddr") == local.Addr() && f.Value.Get("dport") == uint64(local.Port())
		if !in && !back {
			continue
		}
		d.saw("%s becomes %s", tuple(f.Key), tuple(f.Value))
		toMember = toMember || in && f.Value.Get("saddr") == d.net.VIP && f.Value.Get("daddr") == d.webs["WEB1"].Address
		toClient = toClient || back && f.Value.Get("saddr") == d.net.VIP
	}
	if !toMember || !toClient {
		return fmt.Errorf("the table does not hold both directions of the connection from %s to WEB1", local)
	}
	return nil
}

// tuple is as in "10.10.10.4:43210 → 172.16.100.11:80".
func tuple(f lab.Fields) string {
	return fmt.Sprintf("%v:%v → %v:%v", f.Get("saddr"), f.Get("sport"), f.Get("daddr"), f.Get("dport"))
}

// lookAtStats compares what was counted with what was asked.
func (d *demo) lookAtStats(ctx context.Context) error {
	// The last FIN may still be on its way.
	err := until(ctx, patience, func() error {
		out, err := d.quietly(ctx, "pool", "stats", d.poolID, "-o", "json")
		if err != nil {
			return fatal(err)
		}
		stats, err := decode[object](out)
		if n := stats.number("active_connections"); err == nil && n != 0 {
			err = fmt.Errorf("%d connections count as active, all are closed", n)
		}
		return err
	})
	if err != nil {
		return err
	}
	stats, err := d.show(ctx, "pool", "stats", poolName)
	if err != nil {
		return err
	}
	d.saw("total_connections %d, active_connections %d, bytes_in %d, bytes_out %d", stats.number("total_connections"),
		stats.number("active_connections"), stats.number("bytes_in"), stats.number("bytes_out"))
	if stats.number("total_connections") != d.completed {
		return fmt.Errorf("%d connections were counted, want the %d that were made", stats.number("total_connections"), d.completed)
	}
	if stats.number("bytes_in") == 0 || stats.number("bytes_out") == 0 {
		return errors.New("no bytes were counted")
	}
	return nil
}

func (d *demo) lookAtStatus(ctx context.Context) error {
	status, err := d.show(ctx, "status")
	if err != nil {
		return err
	}
	p := d.pool(status)
	d.saw("pool %s: hook %s, generation %v, program %s, flows %v of %v, members %v of %v up", p.text("state"), p.text("hook"),
		p["generation"], p.text("program_tag"), p["flows_used"], p["flows_limit"], p["members_up"], p["members_total"])
	if p.number("members_up") != 2 || p.number("members_total") != 2 {
		return fmt.Errorf("%d of %d members are up, want 2 of 2", p.number("members_up"), p.number("members_total"))
	}
	return nil
}
