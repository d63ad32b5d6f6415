package cost

import (
	"bytes"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet"
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

// onStages runs the test on a stage of each hook that plays the MAC swap.
func onStages(t *testing.T, clients uint32, test func(t *testing.T, send func(packets uint32) []byte)) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	frame := fromClient(largeFrame)
	for _, subject := range []string{subjectXDP, subjectTCX} {
		t.Run(subject, func(t *testing.T) {
			s, err := newStage(subject)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if err := s.prepare(s.macs, scene{frame: frame, clients: clients}); err != nil {
				t.Fatal(err)
			}
			test(t, func(packets uint32) []byte {
				o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)), Repeat: packets}
				if _, err := s.again.Run(&o); err != nil {
					t.Fatal(err)
				}
				return o.DataOut
			})
		})
	}
}

// TestPacketIsRestored: the program under test meets the same packet each time, however often
// it has swapped its addresses.
func TestPacketIsRestored(t *testing.T) {
	swapped := fromClient(largeFrame)
	copy(swapped, gatewayMAC)
	copy(swapped[len(gatewayMAC):], ownMAC)
	onStages(t, 1, func(t *testing.T, send func(packets uint32) []byte) {
		for _, packets := range []uint32{1, 2, 7, 1000} {
			if out := send(packets); !bytes.Equal(out, swapped) {
				t.Errorf("after %d packets:\n%s", packets, packet.Diff(out, swapped))
			}
		}
	})
}

// TestClientsTakeTurns: each of them once, whatever order that is in, and then again; and they
// are those that connections are made for.
func TestClientsTakeTurns(t *testing.T) {
	const clients = 2 * portsOfOne
	wanted := map[netip.AddrPort]int{}
	for n := range uint32(clients) {
		wanted[nthClient(n)] = 2
	}
	onStages(t, clients, func(t *testing.T, send func(packets uint32) []byte) {
		left := map[netip.AddrPort]int{}
		for client, turns := range wanted {
			left[client] = turns
		}
		inOrder := 0
		var last netip.AddrPort
		for range 2 * clients {
			out := send(1)
			client := addrPort(out[offSource:], out[offPorts:])
			if left[client]--; left[client] < 0 {
				t.Fatalf("%s is not a client, or had its turns", client)
			}
			if client.Addr() == last.Addr() && client.Port() == last.Port()+1 {
				inOrder++
			}
			last = client
		}
		if inOrder > clients/100 {
			t.Errorf("%d of %d clients come right after the one before them", inOrder, 2*clients)
		}
	})
}
