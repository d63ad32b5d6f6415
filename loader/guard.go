package loader

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"qlbaas/loader/ruleset"
	"qlbaas/maps"
)

// The guard makes a missing program mean silence. Without it the stack would answer
// for the VIP, and a RST from it ends the connections of every client within one
// round trip; with it they retransmit until the program is back.
//
//	table inet qlbaas {
//		chain input {
//			type filter hook input priority filter; policy accept;
//			ip[6] daddr VIP tcp dport LISTENER counter drop
//			ip[6] daddr VIP udp dport LISTENER counter drop
//			ip[6] daddr VIP tcp dport 1024-65023 counter drop
//			ip[6] daddr VIP udp dport 1024-65023 counter drop
//			… and the same for every other source address
//			icmp[v6] type echo-request limit rate over 1000/second burst 200 packets counter drop
//			icmp type destination-unreachable code frag-needed, not about TCP: counter drop
//			icmpv6 type packet-too-big, not about TCP: counter drop
//		}
//		chain forward {
//			type filter hook forward priority filter; policy drop;
//		}
//	}
//
// Where a sidecar listens, the two rules about the VIP's TCP are missing: the programs let
// nothing pass but to the listener and to connections that have a socket, and when they are
// missing the sidecar goes on serving.
//
// The stack answers pings, and anybody can send them, so that there is a limit.
//
// Whoever says that something was too big is believed by the stack, unless it was a
// segment, whose number he has to know. The programs ask the same routes, and would let
// every flow that goes that way carry less. They drop such an error themselves where
// they see it whole and for the VIP: not in fragments, nor if it was sent to a group.
//
// The sockets of the namespace itself take their ports above that range, so their
// answers pass, and so does neighbour discovery. What the programs redirect crosses
// neither hook.
const guardTable = "qlbaas"

// natPortMin and natPortMax bound the ports that members answer to.
const (
	natPortMin = 1024
	natPortMax = natPortMin + maps.NATPorts - 1
)

// newGuard describes the guard of a listener, and of the addresses that members answer to.
// The first of them is the VIP, whose segments may be a sidecar's.
func newGuard(own []netip.Addr, listener uint16, sidecar bool) ruleset.Table {
	table := &nftables.Table{Name: guardTable, Family: nftables.TableFamilyINet}
	accept, drop := nftables.ChainPolicyAccept, nftables.ChainPolicyDrop
	input := &nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	}
	forward := &nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	}
	var rules [][]expr.Any
	for i, address := range own {
		for _, ports := range [][2]uint16{{listener, listener}, {natPortMin, natPortMax}} {
			for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				if sidecar && i == 0 && proto == unix.IPPROTO_TCP {
					continue
				}
				rules = append(rules, dropRule(address, proto, ports))
			}
		}
	}
	rules = append(rules, echoRule(familyOf(own[0])), tooBigRule(familyOf(own[0])))
	return ruleset.Table{Table: table, Chains: []ruleset.Chain{{Chain: input, Rules: rules}, {Chain: forward}}}
}

// dropRule drops what is for the address and one of the ports.
func dropRule(own netip.Addr, proto byte, ports [2]uint16) []expr.Any {
	const destination, portAt = 1, 2
	protocol, addressAt, ip := byte(unix.NFPROTO_IPV4), uint32(16), own.AsSlice()
	if familyOf(own) == ipv6 {
		protocol, addressAt = unix.NFPROTO_IPV6, 24
	}
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: destination},
		&expr.Cmp{Op: expr.CmpOpEq, Register: destination, Data: []byte{protocol}},
		&expr.Payload{DestRegister: destination, Base: expr.PayloadBaseNetworkHeader, Offset: addressAt, Len: uint32(len(ip))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: destination, Data: ip},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: destination},
		&expr.Cmp{Op: expr.CmpOpEq, Register: destination, Data: []byte{proto}},
		&expr.Payload{DestRegister: destination, Base: expr.PayloadBaseTransportHeader, Offset: portAt, Len: 2},
	}
	low, high := binaryutil.BigEndian.PutUint16(ports[0]), binaryutil.BigEndian.PutUint16(ports[1])
	if ports[0] == ports[1] {
		rule = append(rule, &expr.Cmp{Op: expr.CmpOpEq, Register: destination, Data: low})
	} else {
		rule = append(rule,
			&expr.Cmp{Op: expr.CmpOpGte, Register: destination, Data: low},
			&expr.Cmp{Op: expr.CmpOpLte, Register: destination, Data: high})
	}
	return append(rule, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
}

// Pings that the stack answers in a second, and how many at once. Whoever looks after a
// VIP sends one a second; what a flood gets back costs as much as what it sends.
const (
	echoRate  = 1000
	echoBurst = 200
)

// echoRule drops pings beyond the limit.
func echoRule(f family) []expr.Any {
	const register = 1
	proto, echo := byte(unix.IPPROTO_ICMP), byte(8)
	if f == ipv6 {
		proto, echo = unix.IPPROTO_ICMPV6, 128
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{proto}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{echo}},
		&expr.Limit{Type: expr.LimitTypePkts, Rate: echoRate, Over: true, Unit: expr.LimitTimeSecond, Burst: echoBurst},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// tooBigRule drops errors about the size of what was no TCP segment.
func tooBigRule(f family) []expr.Any {
	const register = 1
	// Where the quoted header, behind eight bytes of ICMP, says what it carries.
	proto, tooBig, quoted := byte(unix.IPPROTO_ICMP), []byte{3, 4}, uint32(8+9)
	if f == ipv6 {
		proto, tooBig, quoted = unix.IPPROTO_ICMPV6, []byte{2}, 8+6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{proto}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Len: uint32(len(tooBig))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: tooBig},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: quoted, Len: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// ensureGuard puts the guard in place, as one transaction: at no moment is a part
// of it there, or an old one gone and the new one not there yet.
func (n *Node) ensureGuard(ctx context.Context, p *pool, b *Balancer) error {
	guarded, err := n.beginGuard(ctx, p, b)
	if err != nil {
		return err
	}
	return guarded()
}

// beginGuard is ensureGuard for who has other things to do meanwhile: the kernel takes as
// long for it as for a pool's tables. The guard stands when guarded has returned, which must
// be called, and may be called again.
func (n *Node) beginGuard(ctx context.Context, p *pool, b *Balancer) (guarded func() error, err error) {
	wanted := newGuard(ownAddresses(p, b), b.VIP.Port, b.Sidecar != NoSidecar)
	var nft *nftables.Conn
	err = p.ns.Do(func() (err error) {
		if nft, err = nftables.New(nftables.AsLasting()); err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	end := func() { _ = nft.CloseLasting() } // nothing is left to be said
	same, err := wanted.Stands(nft)
	if err == nil && !same {
		err = n.step(ctx, "set guard")
	}
	if err != nil || same {
		end()
		return func() error { return nil }, err
	}
	installed := make(chan error, 1)
	go func() {
		defer end()
		installed <- wanted.Install(nft)
	}()
	return sync.OnceValue(func() error { return <-installed }), nil
}
