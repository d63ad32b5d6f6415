package rows

// icmp are rows about ICMP.
func icmp() []Row {
	return []Row{
		{Number: 81, Packet: "ping to V, 0, 56, 1472 bytes and 8 kB", Becomes: "passes; the stack answers"},
		{Number: 82, Packet: "echo reply, timestamp, mask, redirect, source quench to V", Becomes: "echo reply passes (monitors ping); the others `icmp_type`"},
		{Number: 83, Packet: "fragmentation needed from C's side about V→C", Becomes: "becomes one about M→S, to M; M sends less"},
		{Number: 84, Packet: "fragmentation needed from M's side about S→M", Becomes: "becomes one about C→V, to C; C sends less"},
		{Number: 85, Packet: "both with a quote of IP and 8 bytes", Becomes: "translated as far as it goes"},
		{Number: 86, Packet: "quote with options, of a fragment, cut", Becomes: "translated behind options; else `icmp_inner`"},
		{Number: 87, Packet: "wrong ICMP sum; wrong sum of the quoted header", Becomes: "`icmp_csum`"},
		{Number: 88, Packet: "about a tuple that nobody has", Becomes: "`icmp_nomap`, or passes where it may be about the namespace's own; no state"},
		{Number: 89, Packet: "about a flow, but a number far from it", Becomes: "`icmp_seq`; nothing changes"},
		{Number: 90, Packet: "fragmentation needed with MTU 0, 68, below 552 (IPv6: 1280)", Becomes: "`icmp_mtu`"},
		{Number: 91, Packet: "unreachable of all kinds about a flow", Becomes: "translated; the flow stays"},
		{Number: 92, Packet: "M's port unreachable about a datagram", Becomes: "translated, from V"},
		{Number: 93, Packet: "time exceeded, parameter problem, both ways", Becomes: "translated: traceroute works"},
		{Number: 94, Packet: "error about an error, about a broadcast", Becomes: "`icmp_inner`; we never send one"},
	}
}

// neighbours are rows about members and clients in unusual places, about other pools,
// and about IPv6's own.
func neighbours() []Row {
	return []Row{
		{Number: 95, Packet: "M connects outward by way of the namespace", Becomes: "passes; no flow takes it for an answer"},
		{Number: 96, Packet: "M connects from its service port to C's address and port", Becomes: "passes: flows are found by the whole tuple"},
		{Number: 97, Packet: "M asks V and gets itself", Becomes: "forwarded; M sees S"},
		{Number: 98, Packet: "M1 asks V and gets M2; C in the members' subnet", Becomes: "forwarded, the answer by way of V"},
		{Number: 99, Packet: "M answers from another port or address", Becomes: "`nat_nomap`"},
		{Number: 100, Packet: "S is V, and a NAT port the listener's", Becomes: "never given out"},
		{Number: 101, Packet: "two VIPs with one member, one client port to both", Becomes: "two mappings"},
		{Number: 102, Packet: "the same tuple in two pools", Becomes: "each pool has its own flow"},
		{Number: 103, Packet: "a monitor's probe from inside the namespace", Becomes: "passes both ways, counts as no client"},
		{Number: 104, Packet: "a request to V from inside the namespace itself", Becomes: "never reaches the program: silence; documented"},
		{Number: 105, Packet: "SYN beyond the connection limit", Becomes: "`conn_limit`, no answer; the slot is freed once"},
		{Number: 106, Packet: "SYN while no member is usable", Becomes: "`no_member` and a RST at once"},
		{Number: 107, Packet: "data of a flow whose member drains or is gone", Becomes: "forwarded until the deadline; then `drained` and a RST to both"},
		{Number: 108, Packet: "a packet between the expiry's look and its deletion", Becomes: "the flow survives"},
		{Number: 109, Packet: "1,000 SYNs of one persistent client on both CPUs", Becomes: "one member"},
		{Number: 110, Packet: "IPv6 to an IPv4 pool, the reverse; NS, NA, RA", Becomes: "passes"},
		{Number: 111, Packet: "IPv6 with hop-by-hop, destination options and more", Becomes: "forwarded with up to 6 headers and 256 bytes of them, else `v6_ext`"},
		{Number: 112, Packet: "IPv6 routing header; fragments, atomic ones too; payload length 0", Becomes: "`v6_ext`; `frag`; `ip_len`"},
		{Number: 113, Packet: "from ::, ::1, ff02::1, ::ffff:1.2.3.4", Becomes: "`martian`"},
		{Number: 114, Packet: "packet too big, both ways", Becomes: "translated, as 83 and 84"},
		{Number: 115, Packet: "a million mutations of all this", Becomes: "each is decided on once, and the kernel's log stays empty"},
	}
}

// loads are rows about more than there is room for.
func loads() []Row {
	return []Row{
		{Number: 116, Packet: "flood of SYNs from nowhere beside 1,000 idle and 200 active flows", Becomes: "none of them is lost"},
		{Number: 117, Packet: "the same flood and new clients", Becomes: "95 % connect within 3 s; back to normal within 10 s"},
		{Number: 118, Packet: "the same flood against the ports of few members", Becomes: "handshakes hold a share of them only, for 5 s under pressure"},
		{Number: 119, Packet: "more clients than ports toward a member", Becomes: "another member; then `nat_full` and a RST; no port twice"},
		{Number: 120, Packet: "SYN with 95 % of the ports taken", Becomes: "costs at most three times what it costs with none"},
		{Number: 121, Packet: "more flows than the table takes", Becomes: "`flows_full` and a RST; what is there goes on"},
		{Number: 122, Packet: "more persistent clients than are remembered", Becomes: "the one unseen for longest is forgotten; flows do not feel it"},
		{Number: 123, Packet: "10,000 short connections a second, then silence", Becomes: "every level is back to 0"},
		{Number: 124, Packet: "a pool beyond the memory that there is", Becomes: "refused whole; the error names the table"},
		{Number: 125, Packet: "expiry over a million entries", Becomes: "less than half a core for less than 2 s; nothing refreshed is lost"},
	}
}
