package bpf_test

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// TestLastPorts: two CPUs take and give back the last ports of a member. None is given
// twice, and none is lost: words of ports are noted as full and as open again all the
// time meanwhile.
func TestLastPorts(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		w.run("two words of them", func(w *world) { w.lastPorts(10*64, 12*64) })
		w.run("one", func(w *world) { w.lastPorts(640*64, 640*64+1) })
		w.run("at the ends", func(w *world) { w.lastPorts(62, 66, 63990, 64000) })
	})
}

// lastPorts leaves only the given ranges of ports free.
func (w *world) lastPorts(ranges ...int) {
	w.oneMember()
	w.plant(0, firstPort, lastPort)
	free := 0
	for ; len(ranges) > 0; ranges = ranges[2:] {
		for pos := ranges[0]; pos < ranges[1]; pos++ {
			w.free(0, firstPort+pos)
			free++
		}
	}
	const rounds = 3000
	var held [2][]conn
	seed := rand.Uint64()
	random := [2]*rand.Rand{rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))}
	w.together(rounds, func(cpu, n int) error {
		mine := held[cpu]
		if at := len(mine) - 1; at >= 0 && random[cpu].IntN(2) == 0 {
			in, _ := mine[at].down(seg(packet.RST|packet.ACK, 0, clientISN+1))
			held[cpu] = mine[:at]
			_, err := w.forwards(in)
			return err
		}
		c := conn{w: w, client: w.host(netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(cpu), byte(n >> 8), byte(n)}), 4000))}
		in, _ := c.up(seg(packet.SYN, clientISN, 0))
		code, out, _, err := w.through(in)
		if to, _ := addressesOf(out); err == nil && code == tcRedirect && to == w.memberAt(0).Addr() {
			c.port = binary.BigEndian.Uint16(out[transportOf(out):])
			held[cpu] = append(mine, c)
		}
		return err
	})
	w.noneStuck()
	inUse := len(held[0]) + len(held[1])
	for n := range free - inUse {
		c := w.quickSYN(client(10 + n))
		if c.slot != 0 {
			w.Fatalf("connection %d to slot %d", n, c.slot)
		}
	}
	w.refused("SYN without a port", seg(packet.SYN, clientISN, 0), "nat_full")
	if used := w.memberState(0).PortsUsed; used != maps.NATPorts {
		w.Errorf("%d ports are used, %d were free", used, free)
	}
}

// noneStuck: no word with a free port is noted as full.
func (w *world) noneStuck() {
	w.Helper()
	state := w.memberState(0)
	used := 0
	for word, ports := range state.Ports {
		used += bits.OnesCount64(ports)
		if state.Full[word/64]>>(word%64)&1 != 0 && ^ports != 0 {
			w.Errorf("word %d is %#x, and said to be full", word, ports)
		}
	}
	if used != int(state.PortsUsed) {
		w.Errorf("%d ports are taken, %d are counted", used, state.PortsUsed)
	}
}
