package router

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"qlbaas/loader/ruleset"
)

// tableName is the router's table of nftables.
const tableName = "qlbaas"

// Names of the maps that the rules look into.
const (
	setFloating = "floating" // to whom a floating IP leads
	setFixed    = "fixed"    // and back
)

// echoRate and echoBurst limit the pings that the router itself answers.
const (
	echoRate  = 1000
	echoBurst = 200
)

const (
	register = 1
	// Where an IPv4 header has its addresses.
	sourceAt, destinationAt = 12, 16
	ctDNAT                  = 0x20 // IPS_DST_NAT
)

// newRules describes the table; see the package's documentation for what it says.
func newRules(w *Router) ruleset.Table {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
	there := &nftables.Set{Table: table, Name: setFloating, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeIPAddr}
	back := &nftables.Set{Table: table, Name: setFixed, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeIPAddr}
	var elementsThere, elementsBack []nftables.SetElement
	for _, f := range w.floating() {
		elementsThere = append(elementsThere, nftables.SetElement{Key: f.Address.AsSlice(), Val: f.Fixed.AsSlice()})
		elementsBack = append(elementsBack, nftables.SetElement{Key: f.Fixed.AsSlice(), Val: f.Address.AsSlice()})
	}
	return ruleset.Table{
		Table: table,
		Sets:  []ruleset.Set{{Set: there, Elements: elementsThere}, {Set: back, Elements: elementsBack}},
		Chains: []ruleset.Chain{
			inputChain(table), forwardChain(table, w),
			{Chain: natChain(table, "prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), Rules: preroutingRules(w)},
			{Chain: natChain(table, "postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource), Rules: postroutingRules(w)},
		},
	}
}

func natChain(table *nftables.Table, name string, at *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name: name, Table: table, Type: nftables.ChainTypeNAT, Policy: &accept, Hooknum: at, Priority: priority,
	}
}

func inputChain(table *nftables.Table) ruleset.Chain {
	drop := nftables.ChainPolicyDrop
	echo := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{unix.IPPROTO_ICMP}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{8}},
		&expr.Limit{Type: expr.LimitTypePkts, Rate: echoRate, Unit: expr.LimitTimeSecond, Burst: echoBurst},
	}
	return ruleset.Chain{
		Chain: &nftables.Chain{
			Name: "input", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		},
		Rules: [][]expr.Any{
			accept(onDevice(expr.MetaKeyIIFNAME, expr.CmpOpEq, "lo")), accept(answers()), accept(echo),
		},
	}
}

func forwardChain(table *nftables.Table, w *Router) ruleset.Chain {
	drop := nftables.ChainPolicyDrop
	chain := ruleset.Chain{Chain: &nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	}}
	if w.External == nil {
		chain.Rules = [][]expr.Any{accept(nil)}
		return chain
	}
	outside := externalName(w)
	through := append(onDevice(expr.MetaKeyIIFNAME, expr.CmpOpEq, outside), onDevice(expr.MetaKeyOIFNAME, expr.CmpOpEq, outside)...)
	chain.Rules = [][]expr.Any{
		append(through, &expr.Verdict{Kind: expr.VerdictDrop}),
		accept(onDevice(expr.MetaKeyIIFNAME, expr.CmpOpNeq, outside)),
		accept(answers()),
		accept(translated()),
	}
	if !w.SNAT {
		chain.Rules = append(chain.Rules, accept(nil))
	}
	return chain
}

func preroutingRules(w *Router) [][]expr.Any {
	if w.External == nil {
		return nil
	}
	return [][]expr.Any{toMapped(destinationAt, setFloating, expr.NATTypeDestNAT)}
}

// postroutingRules give what leaves by the external leg its floating IP, or the leg's own
// address; and likewise what comes from inside and goes back inside by a floating IP, so
// that the answer comes back through the router.
func postroutingRules(w *Router) [][]expr.Any {
	if w.External == nil {
		return nil
	}
	outside := externalName(w)
	out := onDevice(expr.MetaKeyOIFNAME, expr.CmpOpEq, outside)
	around := append(onDevice(expr.MetaKeyOIFNAME, expr.CmpOpNeq, outside), onDevice(expr.MetaKeyIIFNAME, expr.CmpOpNeq, outside)...)
	around = append(around, translated()...)
	join := func(a, b []expr.Any) []expr.Any { return append(append([]expr.Any{}, a...), b...) }
	rules := [][]expr.Any{
		join(out, toMapped(sourceAt, setFixed, expr.NATTypeSourceNAT)),
		join(around, toMapped(sourceAt, setFixed, expr.NATTypeSourceNAT)),
		join(around, toAddress(w.External.Address.Addr())),
	}
	if w.SNAT {
		rules = append(rules, join(out, toAddress(w.External.Address.Addr())))
	}
	return rules
}

func externalName(w *Router) string { return (&leg{*w.External, true}).insideName() }

// onDevice matches a packet's device by name.
func onDevice(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: register},
		&expr.Cmp{Op: op, Register: register, Data: padded},
	}
}

// answers matches what belongs to a connection that is known.
func answers() []expr.Any {
	return masked(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// translated matches connections whose destination was another one.
func translated() []expr.Any { return masked(expr.CtKeySTATUS, ctDNAT) }

func masked(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

func accept(match []expr.Any) []expr.Any {
	return append(match, &expr.Verdict{Kind: expr.VerdictAccept})
}

// toMapped translates an address to what a map has for it, if anything.
func toMapped(at uint32, set string, kind expr.NATType) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: 4},
		&expr.Lookup{SourceRegister: register, DestRegister: register, IsDestRegSet: true, SetName: set},
		&expr.NAT{Type: kind, Family: unix.NFPROTO_IPV4, RegAddrMin: register, RegAddrMax: register},
	}
}

// toAddress translates the source to an address.
func toAddress(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: register, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register, RegAddrMax: register},
	}
}

// ensureRules puts the table in place, as one transaction, and ends the connections that
// the stack translates by what was there before.
func (n *Node) ensureRules(ctx context.Context, r *router, w *Router) error {
	return r.ns.Do(func() error {
		nft, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		defer func() { _ = nft.CloseLasting() }() // nothing is left to be said
		wanted := newRules(w)
		same, err := wanted.Stands(nft)
		if err != nil || same {
			return err
		}
		if err := n.step(ctx, "set rules"); err != nil {
			return err
		}
		if err := wanted.Install(nft); err != nil {
			return err
		}
		return endStale(w)
	})
}
