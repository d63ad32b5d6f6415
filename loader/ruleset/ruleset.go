// Package ruleset compares a table of nftables with what is wanted, and replaces it.
package ruleset

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"qlbaas/loader/rtnl"
)

// Table is a wanted table: chains in order, and the rules of each.
type Table struct {
	Table  *nftables.Table
	Sets   []Set
	Chains []Chain
}

// Set is a wanted named set, or map, with its elements.
type Set struct {
	*nftables.Set
	Elements []nftables.SetElement
}

// Chain is a wanted chain with its rules.
type Chain struct {
	*nftables.Chain
	Rules [][]expr.Any
}

// Install replaces the table.
func (g Table) Install(nft *nftables.Conn) error {
	nft.AddTable(g.Table) // so that the deletion finds one
	nft.DelTable(g.Table)
	nft.AddTable(g.Table)
	for _, set := range g.Sets {
		if err := nft.AddSet(set.Set, set.Elements); err != nil {
			return fmt.Errorf("set elements of %s: %w", set.Name, err)
		}
	}
	for _, chain := range g.Chains {
		nft.AddChain(chain.Chain)
		for _, rule := range chain.Rules {
			nft.AddRule(&nftables.Rule{Table: g.Table, Chain: chain.Chain, Exprs: rule})
		}
	}
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("set rules: %w", err)
	}
	return nil
}

// Stands tells whether the kernel has this table and nothing else in its table.
func (g Table) Stands(nft *nftables.Conn) (bool, error) {
	all, err := rtnl.Dump(func() ([]*nftables.Chain, error) { return nft.ListChainsOfTableFamily(g.Table.Family) })
	if err != nil {
		return false, fmt.Errorf("list chains of table: %w", err)
	}
	found := map[string]*nftables.Chain{}
	for _, chain := range all {
		if chain.Table.Name == g.Table.Name {
			found[chain.Name] = chain
		}
	}
	if len(found) != len(g.Chains) {
		return false, nil
	}
	if same, err := g.setsStand(nft); err != nil || !same {
		return false, err
	}
	for _, chain := range g.Chains {
		other := found[chain.Name]
		if other == nil || !sameHook(chain.Chain, other) {
			return false, nil
		}
		if same, err := chain.stand(nft); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// setsStand tells whether the kernel has these sets.
func (g Table) setsStand(nft *nftables.Conn) (bool, error) {
	for _, set := range g.Sets {
		found, err := rtnl.Dump(func() ([]nftables.SetElement, error) { return nft.GetSetElements(set.Set) })
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list elements of %s: %w", set.Name, err)
		}
		if len(found) != len(set.Elements) {
			return false, nil
		}
		values := map[string]string{}
		for _, e := range found {
			values[string(e.Key)] = string(e.Val)
		}
		for _, e := range set.Elements {
			if value, ok := values[string(e.Key)]; !ok || value != string(e.Val) {
				return false, nil
			}
		}
	}
	return true, nil
}

func sameHook(a, b *nftables.Chain) bool {
	return a.Type == b.Type && reflect.DeepEqual(a.Hooknum, b.Hooknum) &&
		reflect.DeepEqual(a.Priority, b.Priority) && reflect.DeepEqual(a.Policy, b.Policy)
}

func (c Chain) stand(nft *nftables.Conn) (bool, error) {
	rules, err := rtnl.Dump(func() ([]*nftables.Rule, error) { return nft.GetRules(c.Table, c.Chain) })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list rules of table: %w", err)
	}
	if len(rules) != len(c.Rules) {
		return false, nil
	}
	for i, rule := range rules {
		if !reflect.DeepEqual(withoutCounts(rule.Exprs), withoutCounts(c.Rules[i])) {
			return false, nil
		}
	}
	return true, nil
}

// withoutCounts leaves out what the kernel changes in a rule by itself.
func withoutCounts(rule []expr.Any) []expr.Any {
	var rest []expr.Any
	for _, e := range rule {
		if _, counts := e.(*expr.Counter); !counts {
			rest = append(rest, e)
		}
	}
	return rest
}
