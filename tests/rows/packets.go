package rows

// frames are rows about the link, and about how the kernel holds a packet.
func frames() []Row {
	return []Row{
		{Number: 1, Packet: "Ethernet frame of type 0800 with 0–19 bytes of IPv4", Becomes: "`trunc_l3`"},
		{Number: 2, Packet: "to V, the transport header cut: TCP at 0–19 bytes, UDP and ICMP at 0–7", Becomes: "`trunc_l4`"},
		{Number: 3, Packet: "SYN, ACK and data of which only 14, 20 or 34 bytes are linear", Becomes: "forwarded as any other"},
		{Number: 4, Packet: "TCP super-packet of 20 kB, segments of 1460, partial sum", Becomes: "forwarded whole; 14 good segments at M"},
		{Number: 5, Packet: "UDP super-packet of ten datagrams, partial sum", Becomes: "forwarded whole; ten good datagrams at M"},
		{Number: 6, Packet: "one segment with a partial sum", Becomes: "forwarded; its sum is right at M with checksum offload on and off"},
		{Number: 7, Packet: "IPv6 segment whose whole sum the device has computed", Becomes: "forwarded; the kernel's sum is corrected with it"},
		{Number: 8, Packet: "40 bytes of IP in a frame of 60, filled with rubbish", Becomes: "forwarded; the filling is no payload"},
		{Number: 9, Packet: "802.1Q with VID 5, the rest valid for V", Becomes: "passes; the stack drops it"},
		{Number: 10, Packet: "802.1Q with VID 0, a priority tag", Becomes: "forwarded: it is the untagged network"},
		{Number: 11, Packet: "QinQ; three tags", Becomes: "passes; the stack drops it"},
		{Number: 12, Packet: "broadcast or multicast on the link, unicast to V", Becomes: "`l2_bcast`"},
		{Number: 13, Packet: "for V but with another host's MAC", Becomes: "passes; the stack drops it"},
		{Number: 14, Packet: "ARP: request, probe, and an announcement of V from another MAC", Becomes: "passes; a claim on V is counted and dropped by nobody"},
		{Number: 15, Packet: "LLDP, LLC length, unknown ethertype", Becomes: "passes"},
	}
}

// headers are rows about the IP header, addresses, ports and flags.
func headers() []Row {
	return []Row{
		{Number: 16, Packet: "IP version 0, 5, 6, 15 in type 0800 (4 and others in 86dd)", Becomes: "`ip_ver`"},
		{Number: 17, Packet: "IHL 0–4; IHL 15 with 20 bytes there", Becomes: "`ip_ihl`; `ip_len`"},
		{Number: 18, Packet: "IP options: NOPs, router alert, timestamp, source route", Becomes: "`ip_opts`, both ways; an ICMP error's quote may have them"},
		{Number: 19, Packet: "total length beyond the frame, below the headers, 0", Becomes: "`ip_len`; below the transport header `trunc_l4`"},
		{Number: 20, Packet: "wrong sum of the IPv4 header", Becomes: "forwarded, as wrong as it was: M's kernel drops it"},
		{Number: 21, Packet: "TTL 0, 1, 255 to V", Becomes: "`ttl` and time exceeded from V; 255 leaves as 254"},
		{Number: 22, Packet: "TTL 1 from M to S", Becomes: "`ttl` and time exceeded to M"},
		{Number: 23, Packet: "DF, longer than the way to M allows", Becomes: "`too_big` and fragmentation needed from V, quoting what C sent"},
		{Number: 24, Packet: "the same without DF", Becomes: "`too_big`, no answer: nothing is fragmented here"},
		{Number: 25, Packet: "super-packet whose segments are too long for the way", Becomes: "`too_big` and fragmentation needed"},
		{Number: 26, Packet: "reserved IP flag, DSCP, ECN of all kinds, AccECN bit", Becomes: "forwarded, every bit as it was"},
		{Number: 27, Packet: "IP protocols 0, 4, 41, 47, 50, 132, 255 to V", Becomes: "passes; nothing is unpacked, the stack answers within its own limits"},
		{Number: 28, Packet: "first fragment, TCP and UDP", Becomes: "`frag`: all fragments end here, the first one too"},
		{Number: 29, Packet: "later fragment whose bytes look like ports", Becomes: "`frag`, no entry"},
		{Number: 30, Packet: "fragments in the wrong order, twice, overlapping, beyond 65,535", Becomes: "`frag` each"},
		{Number: 31, Packet: "first fragment with 8 bytes of TCP", Becomes: "`frag`"},
		{Number: 32, Packet: "M's answer in fragments, in any order", Becomes: "`frag` each"},
		{Number: 33, Packet: "100,000 first fragments of different IDs", Becomes: "`frag` each; no table grows"},
		{Number: 34, Packet: "from 0/8, 127/8, 224/4, 240/4, 255.255.255.255", Becomes: "`martian`"},
		{Number: 35, Packet: "from the subnet's broadcast address; to a broadcast or multicast address with V's port", Becomes: "`martian`; passes"},
		{Number: 36, Packet: "from V to V", Becomes: "`spoof_self`"},
		{Number: 37, Packet: "SYN from V:port to V:port (land)", Becomes: "`spoof_self`"},
		{Number: 38, Packet: "from S, from the wire", Becomes: "`spoof_self`"},
		{Number: 39, Packet: "from a member's address, as a client", Becomes: "forwarded: there is one device, and members are clients too"},
		{Number: 40, Packet: "source port 0; destination port 0", Becomes: "`port0`"},
		{Number: 41, Packet: "SYN to V on a port without listener", Becomes: "passes; nothing of ours listens there, and the stack refuses it"},
		{Number: 42, Packet: "datagram to V on a port without listener", Becomes: "passes; port unreachable by the stack, within its limits"},
		{Number: 43, Packet: "to a NAT port that nobody holds", Becomes: "`nat_nomap`, no answer"},
		{Number: 44, Packet: "to another address of the subnet", Becomes: "passes"},
		{Number: 45, Packet: "TCP flags: none, FIN+PSH+URG, all", Becomes: "`tcp_flags`"},
		{Number: 46, Packet: "SYN+FIN, SYN+RST, SYN+FIN+ACK, with and without a flow", Becomes: "`tcp_flags`, the flow as it was"},
		{Number: 47, Packet: "data offset 0–4; 15 beyond the frame", Becomes: "`tcp_doff`"},
		{Number: 48, Packet: "TCP options of length 0 and 1, beyond the end, 40 NOPs", Becomes: "forwarded unread"},
	}
}
