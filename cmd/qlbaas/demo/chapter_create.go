package demo

import (
	"context"
	"fmt"
	"strconv"

	"qlbaas/tests/lab"
)

// Names of the story's objects.
const (
	networkName = "web-net"
	subnetName  = "web-subnet"
	poolName    = "web servers"
	vipName     = "VIP for web servers"
)

// The monitor's numbers in the demo, where the story has 10, 5 and 3.
const (
	delaySec   = 1
	timeoutSec = 1
	maxRetries = 3
)

func (d *demo) createPool(ctx context.Context) error {
	network, err := d.show(ctx, "net", "create", networkName, "--provider:physical_network", lab.BridgeName)
	if err != nil {
		return err
	}
	d.networkID = network.text("id")
	d.saw("network %s on the bridge %s", d.networkID, network.text("provider:physical_network"))
	subnet, err := d.show(ctx, "subnet", "create", networkName, d.net.Subnet.String(), "--name", subnetName)
	if err != nil {
		return err
	}
	d.saw("subnet %s, gateway %s", subnet.text("cidr"), subnet.text("gateway_ip"))
	if subnet.text("gateway_ip") != d.net.Gateway.String() {
		return fmt.Errorf("the subnet's gateway is %q, want %s", subnet.text("gateway_ip"), d.net.Gateway)
	}
	pool, err := d.show(ctx, "pool", "create", "--name", poolName, "--lb-method", "ROUND_ROBIN",
		"--protocol", "HTTP", "--subnet-id", subnetName)
	if err != nil {
		return err
	}
	d.poolID = pool.text("id")
	if !uuid.MatchString(d.poolID) {
		return fmt.Errorf("the pool's id is %q, want a UUID", d.poolID)
	}
	if err := remember(d.place.pools, d.poolID); err != nil {
		return err
	}
	d.saw("pool %s: provider %s, method %s", d.poolID, pool.text("provider"), pool.text("lb_method"))
	if pool.text("provider") != "qlbaas" {
		return fmt.Errorf("the default provider is %q, want qlbaas", pool.text("provider"))
	}
	return d.mustHaveNamespace(false)
}

func (d *demo) createVIP(ctx context.Context) error {
	vip, err := d.show(ctx, "vip", "create", poolName, "--name", vipName, "--protocol", "HTTP",
		"--protocol-port", "80", "--subnet-id", subnetName, "--address", d.net.VIP.String(),
		"--session-persistence", "type=SOURCE_IP")
	if err != nil {
		return err
	}
	d.vipID, d.portID = vip.text("id"), vip.text("port_id")
	if vip.text("address") != d.net.VIP.String() || d.portID == "" {
		return fmt.Errorf("the VIP has address %q and port %q", vip.text("address"), d.portID)
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.mustHaveNamespace(true); err != nil {
		return err
	}
	d.saw("VIP %s:%d, connection limit %d, port %s", vip.text("address"), vip.number("protocol_port"),
		vip.number("connection_limit"), d.portID)
	d.saw("there is a namespace %s now", poolNamespace(d.poolID))
	return d.nobodyYet(ctx)
}

// nobodyYet sees that a VIP without members refuses at once.
func (d *demo) nobodyYet(ctx context.Context) error {
	d.typed("qlbaas", "demo", "get", vipURL)
	a := ask(ctx, d.client(), patience)
	if !isRefused(a.err) {
		return fmt.Errorf("a request to a VIP without members: answer %q, error %w; want a refusal", a.who, a.err)
	}
	d.saw("no member yet: refused at once")
	return nil
}

func (d *demo) createMembers(ctx context.Context) error {
	for _, m := range d.net.Members[:2] {
		if err := d.createMember(ctx, m); err != nil {
			return err
		}
		d.saw("%s is member %s", m.Name, d.memberIDs[m.Name])
	}
	return d.settle(ctx)
}

// createMember adds a member to the pool and waits until it is deployed.
func (d *demo) createMember(ctx context.Context, m lab.Member) error {
	member, err := d.show(ctx, "member", "create", poolName, "--address", m.Address.String(), "--protocol-port", "80")
	if err != nil {
		return err
	}
	d.memberIDs[m.Name] = member.text("id")
	return d.memberStatus(ctx, m.Name, "ACTIVE")
}

func (d *demo) createMonitor(ctx context.Context) error {
	d.say("In the story it probes every 10 s, waits 5 s and takes 3 failures. Here the times\n"+
		"are %d s and %d s, so that the trouble of chapter 8 does not last minutes.", delaySec, timeoutSec)
	monitor, err := d.show(ctx, "monitor", "create", "--type", "HTTP", "--delay", strconv.Itoa(delaySec),
		"--timeout", strconv.Itoa(timeoutSec), "--max-retries", strconv.Itoa(maxRetries),
		"--url-path", "/", "--expected-codes", "200")
	if err != nil {
		return err
	}
	d.monitorID = monitor.text("id")
	d.saw("monitor: %s %s every %d s, expecting %s", monitor.text("http_method"), monitor.text("url_path"),
		monitor.number("delay"), monitor.text("expected_codes"))
	if err := d.change(ctx, "monitor", "associate", d.monitorID, poolName); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	for _, m := range d.net.Members[:2] {
		if err := d.memberStatus(ctx, m.Name, "ACTIVE"); err != nil {
			return err
		}
		d.saw("%s is ACTIVE", m.Name)
	}
	return nil
}
