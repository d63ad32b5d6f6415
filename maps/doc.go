// Package maps gives the BPF maps Go words. It is the only place that converts
// byte order, addresses, ticks and names between the kernel's structs and Go:
// what it exports speaks netip, host order, time.Duration and UUID strings, and
// the generated structs of package bpf never leave it. It knows how a thing is
// stored, never what ought to be stored: policy is the loader's.
//
// # The views
//
// A [Pool] is one pool's maps, a [Node] what all pools of a node share. Both take
// maps that someone else created or opened, own them from then on, and may be used
// by several goroutines.
//
// # Generations
//
// A [Generation] is a pool's configuration, whole. It lives in four inner maps: the
// listener and settings in vips[0], and members, schedule and weights at the index
// vip.half of three outer maps. [Pool.Write] fills the half that no program looks
// at and then swaps vips[0], which is the commit: before it nothing is visible,
// after it everything is, and the kernel returns only when the last program that
// saw the old one has ended. A crash at any point leaves the old generation or the
// new one.
//
// Why the idle half's maps are written in place when they are large enough: a
// change of an outer map waits for an RCU grace period, 8 to 30 ms each, and a
// member that goes down has 50 ms to leave the schedule. Plain elements of an idle
// inner map need no waiting, so a write costs one grace period, for the swap.
//
// # Names and pins
//
// An inner map is named after its outer map and index: vips_0, members_0,
// members_1, schedules_0, schedules_1, weights_0, weights_1, affinities_0,
// member_states_<place of the source address * MaxSlots + slot>, counters_<slot>. (bpffs refuses names with a dot.) Calls
// that make inner maps return them as [Inner] values for the loader to pin;
// [Pool.Adopt] takes them back after a restart and says which pins are stale.
//
// # Slots and serials
//
// A member's slot is its index in every table that programs read; its serial is
// never used twice in a pool, so that a reused slot is not taken for its former
// owner. Slots end in this order: [Pool.Retire] (counters are folded into the
// pool's, then the slot's maps go), then a generation without the member. Retire can
// be repeated after a crash.
//
// # Source addresses
//
// A VIP has up to MaxSources source addresses toward members, its own first. Each has a
// place, which flows keep, and each slot has ports at each place that is used
// ([Pool.AddPorts], [Pool.RemovePorts]). The outer map of ports has room for as many
// places as it was made for; [Pool.CopyStates] and [Pool.ReplaceStates] change it for a
// larger one. A free place between others is stored with the VIP's own address, which is
// no other host's, and is not open.
//
// # IPv6
//
// Only address words differ between the families. The shared structs are generic
// over the address (wire.go), each compared with the generated struct of either
// family by a test; what has no address in it is the same struct for both, and goes
// by its IPv4 name. [Pool] and [Node] know the family by the key size of the maps
// they are given. So a machine with pools of both families has two Nodes: an address
// of four bytes in a key of sixteen would cost every IPv4 handshake 24 bytes twice.
package maps
