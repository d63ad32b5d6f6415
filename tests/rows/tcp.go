package rows

// handshakes are rows about connections that begin.
func handshakes() []Row {
	return []Row{
		{Number: 49, Packet: "SYN", Becomes: "forwarded; one handshake, one connection more at M"},
		{Number: 50, Packet: "the same SYN three times more", Becomes: "same member, same port, still one handshake"},
		{Number: 51, Packet: "SYN with another number in the handshake", Becomes: "forwarded on the same mapping"},
		{Number: 52, Packet: "SYN with 500 bytes of data", Becomes: "forwarded; still a handshake"},
		{Number: 53, Packet: "SYN in an established flow", Becomes: "forwarded to the same member, the flow as it was; M's challenge returns"},
		{Number: 54, Packet: "SYN on a flow that is closed", Becomes: "new choice, new mapping, the first SYN is answered"},
		{Number: 55, Packet: "SYN-ACK from C without a flow", Becomes: "`no_entry`"},
		{Number: 56, Packet: "ACK or data from C without a flow", Becomes: "`no_entry` and a RST, with the other answers at most 100 a second"},
		{Number: 57, Packet: "ACK or data from M without a flow", Becomes: "`nat_nomap`; the guard keeps the stack silent"},
	}
}

// closes are rows about connections that end, or ought not to.
func closes() []Row {
	return []Row{
		{Number: 58, Packet: "RST of the exact number", Becomes: "forwarded; closed, counted out once"},
		{Number: 59, Packet: "RST in the window, not exact", Becomes: "forwarded; the flow stays as it was"},
		{Number: 60, Packet: "RST out of the window, 1,000 numbers", Becomes: "forwarded; the flow stays, the next data passes"},
		{Number: 61, Packet: "RST from M to the SYN", Becomes: "forwarded; the handshake is gone, its port comes up again last"},
		{Number: 62, Packet: "C closes its half, M sends on", Becomes: "forwarded to the end"},
		{Number: 63, Packet: "both close at once, in any order", Becomes: "closed once, counted out once"},
		{Number: 64, Packet: "late ACK or FIN after the end", Becomes: "forwarded while the flow rests, `no_entry` later; opens nothing"},
		{Number: 65, Packet: "SYN, SYN-ACK, silence", Becomes: "forgotten after 60 s, under pressure after 5 s"},
		{Number: 66, Packet: "a port's next user inside M's TIME-WAIT", Becomes: "avoided while other ports are free: they are taken in order, and rest for 60 s"},
		{Number: 67, Packet: "M answers that SYN with an ACK, C with a RST, C sends its SYN again", Becomes: "all forwarded on one mapping"},
		{Number: 68, Packet: "SYN from C and SYN from M cross", Becomes: "both forwarded; tables stay consistent"},
		{Number: 69, Packet: "keepalive after two hours", Becomes: "forwarded; the idle timeout is 7,440 s"},
		{Number: 70, Packet: "window 0 and probes for ten minutes", Becomes: "forwarded"},
		{Number: 71, Packet: "segment signed by TCP-MD5 or TCP-AO", Becomes: "forwarded with the option as it was; no NAT can make it right"},
		{Number: 72, Packet: "wrong TCP sum on SYN and data", Becomes: "forwarded, as wrong as it was; M's kernel drops it, and no flow comes of it"},
	}
}

// sums are rows about checksums and UDP.
func sums() []Row {
	return []Row{
		{Number: 73, Packet: "all 65,536 old sums × changes of ports and addresses", Becomes: "what a full computation gives"},
		{Number: 74, Packet: "datagram without a sum", Becomes: "forwarded without one"},
		{Number: 75, Packet: "datagram whose new sum comes out as 0", Becomes: "sent as ffff"},
		{Number: 76, Packet: "UDP length below 8, or beyond the packet", Becomes: "`udp_len`"},
		{Number: 77, Packet: "datagram of no bytes", Becomes: "forwarded"},
		{Number: 78, Packet: "first two datagrams of a flow on both CPUs at once", Becomes: "one member, one mapping"},
		{Number: 79, Packet: "datagrams for a member that goes down or away", Becomes: "the next one goes to another member"},
		{Number: 80, Packet: "answer after 119 s of silence", Becomes: "forwarded: UDP flows idle for 120 s"},
	}
}
