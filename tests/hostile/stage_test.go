package hostile

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// stage is the story's network with an agent and two stations on the bridge: a raw
// client, and a raw member to which both balancers send all that is new.
type stage struct {
	*agent
	*lab.Tutorial
	hook           string
	client, member *station
	tcp, udp       *balancer
	// held are connections of real hosts through the TCP balancer.
	held []net.Conn
	// beat is a flow between the stations that nothing shall disturb.
	beat conn
	// nextPort of the raw client, so that no case meets another one's flows.
	nextPort uint16
}

// balancer is a pool with its VIP.
type balancer struct {
	*stage
	id      string
	at      netip.AddrPort
	service uint16 // the raw member's port
	mac     net.HardwareAddr
	device  string // the end of both devices' names
	// undecided packets came before the program did.
	undecided int64
}

// Addresses of the stations.
var (
	rawClient = netip.MustParseAddr("172.16.100.66")
	rawMember = netip.MustParseAddr("172.16.100.77")
)

// Ports of the story's members, and of the raw one for each protocol.
const echoPort, tcpService, udpService = 7, 8080, 5353

func newStage(t *testing.T, hook string) *stage {
	t.Helper()
	s := &stage{
		hook: hook, nextPort: 20000,
		Tutorial: labtest.Tutorial(t, lab.TutorialOptions{Members: 1, Ports: lab.AllOff(), Member: lab.AllOff()}),
	}
	// The bridge shall judge no packet that is for the balancer to judge.
	for _, family := range []string{"iptables", "ip6tables", "arptables"} {
		if err := s.Node.Sysctl("net.bridge.bridge-nf-call-"+family, "0"); err != nil {
			t.Fatal(err)
		}
	}
	s.agent = startAgent(t, s.Node, hook)
	if _, err := s.StartEchos(echoPort); err != nil {
		t.Fatal(err)
	}
	hosts := []*lab.Host{s.plug("rawclient"), s.plug("rawmember")}
	network := s.create("/v2.0/networks", "network", object{"name": "n", "provider:physical_network": lab.BridgeName})
	subnet := s.create("/v2.0/subnets", "subnet", object{
		"network_id": network, "ip_version": 4, "cidr": s.Subnet.String(), "gateway_ip": s.Gateway.String(),
	})
	t.Cleanup(s.nothingLeft)
	s.tcp = s.balance(subnet, "TCP", netip.AddrPortFrom(s.VIP, 80), netip.AddrPortFrom(s.Members[0].Address, echoPort))
	s.udp = s.balance(subnet, "UDP", netip.AddrPortFrom(s.VIP.Next(), 53), netip.AddrPortFrom(rawMember, udpService))
	s.hold(3)
	s.tcp.service, s.udp.service = tcpService, udpService
	s.change(s.tcp.id, func() {
		s.create("/v2.0/lb/members", "member", object{
			"pool_id": s.tcp.id, "address": rawMember.String(), "protocol_port": tcpService,
		})
	})
	all, _ := s.call("GET", "/v2.0/lb/members?pool_id="+s.tcp.id, nil)["members"].([]any)
	for _, one := range all {
		if m, _ := one.(map[string]any); object(m).text("address") == s.Members[0].Address.String() {
			s.change(s.tcp.id, func() { // weight 0: what is there stays
				s.call("PUT", "/v2.0/lb/members/"+object(m).text("id"), object{"member": object{"weight": 0}})
			})
		}
	}
	s.client, s.member = newStation(t, hosts[0], rawClient), newStation(t, hosts[1], rawMember)
	s.client.keeps(s.tcp.mac, s.udp.mac)
	s.member.keeps(s.tcp.mac, s.udp.mac)
	s.tcp.offload("off")
	s.udp.offload("off")
	s.beat = s.tcp.open()
	s.tcp.calm()
	s.udp.calm()
	return s
}

// plug adds a host without addresses to the bridge. What it sends may be unfinished,
// what it gets is whole.
func (s *stage) plug(name string) *lab.Host {
	s.t.Helper()
	host, err := s.Lab.Host(name)
	if err == nil {
		err = s.Lab.Link(lab.End{Host: host, Device: lab.Uplink},
			lab.End{Host: s.Node, Device: "p-" + name, Bridge: lab.BridgeName, Offload: lab.AllOff()}, 0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return host
}

func (s *stage) balance(subnet, protocol string, at, member netip.AddrPort) *balancer {
	s.t.Helper()
	b := &balancer{stage: s, at: at}
	b.id = s.create("/v2.0/lb/pools", "pool", object{
		"name": protocol, "subnet_id": subnet, "protocol": protocol, "lb_method": "ROUND_ROBIN",
	})
	s.create("/v2.0/lb/members", "member", object{
		"pool_id": b.id, "address": member.Addr().String(), "protocol_port": member.Port(),
	})
	vip := s.create("/v2.0/lb/vips", "vip", object{
		"name": protocol, "pool_id": b.id, "subnet_id": subnet, "protocol": protocol,
		"address": at.Addr().String(), "protocol_port": at.Port(),
	})
	s.t.Cleanup(func() {
		s.call("DELETE", "/v2.0/lb/vips/"+vip, nil)
		s.call("DELETE", "/v2.0/lb/pools/"+b.id, nil)
		s.until(b.gone)
	})
	s.until(func() error {
		for path, noun := range map[string]string{"/v2.0/lb/pools/" + b.id: "pool", "/v2.0/lb/vips/" + vip: "vip"} {
			if status := s.show(path, noun).text("status"); status != "ACTIVE" {
				return fmt.Errorf("%s is %s", noun, status)
			}
		}
		return nil
	})
	port := s.show("/v2.0/lb/vips/"+vip, "vip").text("port_id")
	var err error
	if b.mac, err = net.ParseMAC(s.show("/v2.0/ports/"+port, "port").text("mac_address")); err != nil {
		s.t.Fatal(err)
	}
	b.device = port[:11]
	return b
}

// gone returns nil when the balancer's namespace has ended.
func (b *balancer) gone() error {
	left, err := lab.Namespaces("qlbaas-" + b.id)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("namespaces %v are left", left)
	}
	return err
}

// nothingLeft wants the node's table of handshakes empty.
func (s *stage) nothingLeft() {
	for _, row := range s.rows("node/v*/maps/half_open_use", "half_open_use") {
		s.t.Errorf("handshakes are left: %v", row)
	}
}

// inside runs a command in the balancer's namespace.
func (b *balancer) inside(words ...string) {
	b.t.Helper()
	if _, err := b.Node.Run(b.t.Context(), "ip", append([]string{"netns", "exec", "qlbaas-" + b.id}, words...)...); err != nil {
		b.t.Fatal(err)
	}
}

// offload switches the checksum offload of the balancer's device. Off means that its
// egress finishes every sum, as a device without offload does.
func (b *balancer) offload(state string) {
	b.t.Helper()
	b.inside("ethtool", "-K", "ns-"+b.device, "tx", state)
}

// hold opens connections that have to last.
func (s *stage) hold(n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for range n {
		c, err := s.Client.Dial(ctx, "tcp", s.tcp.at.String())
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { c.Close() })
		// Its probes would be packets that no case has sent.
		if err := c.(*net.TCPConn).SetKeepAlive(false); err != nil {
			s.t.Fatal(err)
		}
		s.held = append(s.held, c)
		s.reads(c, s.Members[0].Name+"\n")
	}
}

func (s *stage) reads(c net.Conn, want string) {
	s.t.Helper()
	got := make([]byte, len(want))
	err := c.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err != nil || string(got) != want {
		s.t.Fatalf("read %q: %v, want %q", got, err, want)
	}
}

// alive wants all held connections to work.
func (s *stage) alive() {
	s.t.Helper()
	for _, c := range s.held {
		if _, err := io.WriteString(c, "are you there?\n"); err != nil {
			s.t.Fatal(err)
		}
		s.reads(c, "are you there?\n")
	}
}

// run is a subtest on the same stage.
func (s *stage) run(name string, test func(s *stage)) {
	s.t.Run(name, func(t *testing.T) {
		inner, a := *s, *s.agent
		a.t = t
		inner.agent = &a
		tcp, udp := *s.tcp, *s.udp
		tcp.stage, udp.stage = &inner, &inner
		inner.tcp, inner.udp = &tcp, &udp
		inner.beat.b = inner.tcp
		test(&inner)
		s.nextPort, s.beat = inner.nextPort, inner.beat
		s.beat.b = s.tcp
	})
}

// state is what a balancer has counted and holds.
type state struct {
	counts            map[string]uint64 // drops by reason, verdicts by name
	held              uint64            // of the forwarded: those of the held connections
	arrived           uint64            // packets that its device was given, or would have been
	flows, handshakes uint64
	logSize           uint64
}

// decided is how many packets have been judged.
func (s state) decided() (n uint64) {
	for name, count := range s.counts {
		if name != "answered" { // comes on top of a drop
			n += count
		}
	}
	return n
}

func (s *stage) pins(parts ...string) string {
	s.t.Helper()
	pattern := filepath.Join(append([]string{s.bpffs}, parts...)...)
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%d files match %s: %v", len(found), pattern, err)
	}
	return found[0]
}

func (b *balancer) state() state {
	b.t.Helper()
	s := state{counts: map[string]uint64{}, logSize: uint64(len(b.log()))}
	for i, n := range b.perCPU("drops", 1) {
		s.counts[maps.DropReason(i).String()] = n[0]
	}
	for i, n := range b.perCPU("verdicts", 1) {
		s.counts[maps.Verdict(i).String()] = n[0]
	}
	if b.at == b.tcp.at {
		for _, m := range b.perCPU("counters_0", 5) {
			s.held += m[0] + m[2] // packets in and out
		}
	}
	for _, row := range b.rows("pools/"+b.id+"/v*/maps/pool_state", "pool_state") {
		s.flows, _ = row.Value.Get("flows").(uint64)
	}
	for _, row := range b.rows("node/v*/maps/half_open_use", "half_open_use") {
		n, _ := row.Value.Get("handshakes").(uint64)
		s.handshakes += n
	}
	tap, err := b.Node.Netlink().LinkByName("tap" + b.device)
	if err != nil {
		b.t.Fatal(err)
	}
	s.arrived = tap.Attrs().Statistics.TxPackets
	for i, n := range b.perCPU("events", 1) {
		if maps.Event(i).String() == "outside" {
			s.arrived += n[0] // which never came to the device
		}
	}
	return s
}

func (s *stage) rows(pin, value string) []lab.Row {
	s.t.Helper()
	all, err := lab.ReadPin(s.pins(pin), "", value, 8)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// perCPU is the sums of a pinned array of counters; each value holds so many of them.
func (b *balancer) perCPU(name string, numbers int) (sums [][]uint64) {
	b.t.Helper()
	m, err := ebpf.LoadPinnedMap(b.pins("pools", b.id, "v*", "maps", name), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer m.Close()
	var each [][]byte
	for i := range m.MaxEntries() {
		if err := m.Lookup(i, &each); err != nil {
			b.t.Fatal(err)
		}
		sum := make([]uint64, numbers)
		for _, one := range each {
			for k := range sum {
				sum[k] += binary.NativeEndian.Uint64(one[8*k:])
			}
		}
		sums = append(sums, sum)
	}
	return sums
}
