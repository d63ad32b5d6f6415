// Package packet builds, takes apart, compares and checks whole frames, for the
// table tests of the BPF programs (BPF_PROG_TEST_RUN) and for the tests that put
// raw frames on a wire.
//
// A case names what it means and nothing else:
//
//	in := packet.Frame(
//		packet.Ethernet{Dst: ours, Src: theirs},
//		packet.IPv4{Src: client, Dst: vip, TTL: 64},
//		packet.TCP{SrcPort: 40000, DstPort: 80, Flags: packet.SYN,
//			Options: []packet.TCPOption{packet.MSS(1460), packet.Timestamps(7, 0)}},
//	)
//	…
//	if d := packet.Diff(out, want); d != "" {
//		t.Errorf("rewritten SYN:\n%s", d)
//	}
//	if err := packet.Verify(out); err != nil { … }
//
// Rules of the room:
//
//   - A literal means what it says: TTL 0 is TTL 0, window 0 is a closed window.
//     Only what follows from the other layers (lengths, next-protocol numbers,
//     checksums) is filled in, and each of these can be said otherwise, because
//     hostile packets are half of the tests.
//   - Checksums are summed here in full over the bytes as they stand. Nothing is
//     updated incrementally and nothing is shared with the programs under test, so
//     that two errors cannot cancel out.
//   - Diff and Dissect cover every byte of a frame, malformed ones included: an
//     empty Diff means that the bytes are equal.
//
// Why not simply gopacket: it refuses to write the malformed headers that the
// tests are made of, and it is a heavy import for the laboratory that shares this
// package. It is used in this package's own tests instead, as a second opinion on
// every layer built and every checksum.
//
// The package needs no privileges and opens nothing; package afpacket beneath it
// has the sockets.
package packet
