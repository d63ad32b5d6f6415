package lab

import (
	"fmt"
	"net/netip"
)

// TutorialOptions change the topology of NewTutorial; the zero value is the story's
// own: two members, each on a host of its own.
type TutorialOptions struct {
	// Members is how many there are, 1..1024; 0 means 2.
	Members int
	// MembersPerHost puts several members' addresses on one host; 0 means 1. A
	// thousand members on a few hosts cost little.
	MembersPerHost int
	// IPv6 gives everybody addresses of that family in place of IPv4: 2001:db8:10::4
	// for the client, 2001:db8:64::11 for the VIP, 2001:db8:64::9 … for members.
	IPv6 bool
	// Subnet holds the VIP and the members; the zero Prefix means 172.16.100.0/24, or
	// 2001:db8:64::/64.
	// It must contain that network. More than about 240 members need a larger one,
	// such as 172.16.0.0/16.
	Subnet netip.Prefix
	// Client, Ports and Member are the offloads of the client's device, of the
	// bridge's ports (towards router and members) and of the members' devices.
	Client, Ports, Member Offload
	// MTU of all links in bytes; 0 means 1500.
	MTU int
}

// Tutorial is the network of the story:
//
//	client ── router ── br-lb (on node) ─┬─ web1
//	10.10.10.4      .1 │ 172.16.100.1    └─ web2 …
//
// The agent is to run on node, where it finds the bridge and plugs its balancer in.
type Tutorial struct {
	Lab                  *Lab
	Client, Router, Node *Host
	Members              []Member
	// Subnet of VIP and members; Gateway is the router's address in it.
	Subnet  netip.Prefix
	Gateway netip.Addr
	// VIP is the address that is kept free for the balancer, ClientAddress the
	// client's own.
	VIP, ClientAddress netip.Addr
	// outside is the router's address at the client, first the first member's.
	outside netip.Prefix
	first   netip.Addr
}

// Member is one endpoint.
type Member struct {
	// Name is what its servers answer: WEB1, WEB2, …
	Name string
	// Host may be home to other members as well.
	Host    *Host
	Address netip.Addr
}

// The fixed names of the topology.
const (
	// BridgeName is the bridge on Tutorial.Node.
	BridgeName = "br-lb"
	// Uplink is the device of client and members.
	Uplink = "eth0"
)

// maxMembers is how many the product supports in a pool.
const maxMembers = 1024

// NewTutorial builds the story's network in l. The lab's Close removes it.
func NewTutorial(l *Lab, o TutorialOptions) (*Tutorial, error) {
	if o.Members == 0 {
		o.Members = 2
	}
	if o.MembersPerHost == 0 {
		o.MembersPerHost = 1
	}
	t := &Tutorial{
		Lab:           l,
		Subnet:        netip.MustParsePrefix("172.16.100.0/24"),
		Gateway:       netip.MustParseAddr("172.16.100.1"),
		VIP:           netip.MustParseAddr("172.16.100.11"),
		ClientAddress: netip.MustParseAddr("10.10.10.4"),
		outside:       netip.MustParsePrefix("10.10.10.1/24"),
		first:         netip.MustParseAddr("172.16.100.9"),
	}
	if o.IPv6 {
		t.Subnet = netip.MustParsePrefix("2001:db8:64::/64")
		t.Gateway = netip.MustParseAddr("2001:db8:64::1")
		t.VIP = netip.MustParseAddr("2001:db8:64::11")
		t.ClientAddress = netip.MustParseAddr("2001:db8:10::4")
		t.outside = netip.MustParsePrefix("2001:db8:10::1/64")
		t.first = netip.MustParseAddr("2001:db8:64::9")
	}
	if !o.Subnet.IsValid() {
		o.Subnet = t.Subnet
	}
	t.Subnet = o.Subnet
	if o.Members < 1 || o.Members > maxMembers || o.MembersPerHost < 1 {
		return nil, fmt.Errorf("build tutorial: %d members, %d on a host", o.Members, o.MembersPerHost)
	}
	if o.Subnet != o.Subnet.Masked() || !o.Subnet.Contains(t.VIP) || !o.Subnet.Contains(t.Gateway) {
		return nil, fmt.Errorf("build tutorial: subnet %s", o.Subnet)
	}
	for _, build := range []func(TutorialOptions) error{t.buildHosts, t.buildRouting, t.buildMembers} {
		if err := build(o); err != nil {
			return nil, fmt.Errorf("build tutorial: %w", err)
		}
	}
	return t, nil
}

func (t *Tutorial) buildHosts(o TutorialOptions) (err error) {
	if t.Client, err = t.host("client", o); err != nil {
		return err
	}
	if t.Router, err = t.host("router", o); err != nil {
		return err
	}
	if t.Node, err = t.Lab.Host("node"); err != nil {
		return err
	}
	return t.Node.Bridge(BridgeName)
}

// host adds a host. Where IPv6 is spoken it needs link-local addresses, from which the
// kernel asks for neighbours on behalf of packets that it forwards.
func (t *Tutorial) host(name string, o TutorialOptions) (*Host, error) {
	h, err := t.Lab.Host(name)
	if err != nil || !o.IPv6 {
		return h, err
	}
	return h, h.Sysctl("net.ipv6.conf.default.addr_gen_mode", "0")
}

// buildRouting joins client and node by the router.
func (t *Tutorial) buildRouting(o TutorialOptions) error {
	client := netip.PrefixFrom(t.ClientAddress, t.outside.Bits())
	err := t.Lab.Link(
		End{Host: t.Client, Device: Uplink, Addresses: []netip.Prefix{client}, Offload: o.Client},
		End{Host: t.Router, Device: "outside", Addresses: []netip.Prefix{t.outside}},
		o.MTU)
	if err != nil {
		return err
	}
	err = t.Lab.Link(
		End{Host: t.Router, Device: "inside", Addresses: []netip.Prefix{t.inSubnet(t.Gateway)}},
		End{Host: t.Node, Device: "port-router", Bridge: BridgeName, Offload: o.Ports},
		o.MTU)
	if err != nil {
		return err
	}
	forwarding := "net.ipv4.ip_forward"
	if o.IPv6 {
		forwarding = "net.ipv6.conf.all.forwarding"
	}
	if err := t.Router.Sysctl(forwarding, "1"); err != nil {
		return err
	}
	return t.Client.AddRoute(netip.Prefix{}, t.outside.Addr())
}

// buildMembers plugs the members' hosts into the bridge and gives out addresses in
// order from the first one's, leaving out the VIP's.
func (t *Tutorial) buildMembers(o TutorialOptions) error {
	address := t.first
	var host *Host
	for i := range o.Members {
		if i%o.MembersPerHost == 0 {
			var err error
			if host, err = t.memberHost(i/o.MembersPerHost+1, o); err != nil {
				return err
			}
		}
		if address == t.VIP {
			address = address.Next()
		}
		// The last address of a subnet is its broadcast address.
		if !o.Subnet.Contains(address.Next()) {
			return fmt.Errorf("no address for member %d of %d in %s", i+1, o.Members, o.Subnet)
		}
		if err := host.AddAddress(Uplink, t.inSubnet(address)); err != nil {
			return err
		}
		t.Members = append(t.Members, Member{Name: fmt.Sprintf("WEB%d", i+1), Host: host, Address: address})
		address = address.Next()
	}
	// A route needs an address of the host in its gateway's network.
	for i := 0; i < len(t.Members); i += o.MembersPerHost {
		if err := t.Members[i].Host.AddRoute(netip.Prefix{}, t.Gateway); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tutorial) memberHost(n int, o TutorialOptions) (*Host, error) {
	host, err := t.host(fmt.Sprintf("web%d", n), o)
	if err != nil {
		return nil, err
	}
	return host, t.Lab.Link(
		End{Host: host, Device: Uplink, Offload: o.Member},
		End{Host: t.Node, Device: fmt.Sprintf("port-web%d", n), Bridge: BridgeName, Offload: o.Ports},
		o.MTU)
}

func (t *Tutorial) inSubnet(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, t.Subnet.Bits()) }

// StartWebs starts a web server on each member, in the members' order.
func (t *Tutorial) StartWebs(port uint16) ([]*Web, error) {
	var webs []*Web
	for _, m := range t.Members {
		w, err := m.Host.StartWeb(WebOptions{Name: m.Name, Address: netip.AddrPortFrom(m.Address, port)})
		if err != nil {
			return nil, err
		}
		webs = append(webs, w)
	}
	return webs, nil
}

// StartEchos starts an echo server on each member, in the members' order.
func (t *Tutorial) StartEchos(port uint16) ([]*Echo, error) {
	var echos []*Echo
	for _, m := range t.Members {
		e, err := m.Host.StartEcho(m.Name, netip.AddrPortFrom(m.Address, port))
		if err != nil {
			return nil, err
		}
		echos = append(echos, e)
	}
	return echos, nil
}
