/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From bytes to struct pkt. Lengths are taken from the headers and held against
 * each other and against the frame; nothing stands at an assumed offset but the
 * IP header behind Ethernet.
 */
#pragma once

/* Flags that no TCP sends: nothing that opens, continues or ends a connection, or
 * two of these at once. */
static __always_inline bool tcp_flags_absurd(__u8 flags)
{
	if (!(flags & (TCP_SYN | TCP_RST | TCP_ACK)))
		return true;
	return (flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST));
}

/* What the packet is on the wire, once its headers' lengths are known. */
static __always_inline void parse_lengths(ctx_t *ctx, struct pkt *pkt, __u32 headers)
{
	__u32 segment = hook_segment_size(ctx);

	pkt->bytes = pkt->ip_len + (pkt->segs - 1) * headers;
	pkt->seg_len = segment ? headers + segment : pkt->ip_len;
}

static __always_inline int parse_tcp(ctx_t *ctx, struct pkt *pkt)
{
	__u32 l4 = pkt->l4 & L4_MASK;
	__u32 ip_hdr = l4 - L3_OFF;
	struct tcphdr *tcp;
	__u32 payload;

	if (pkt->ip_len < ip_hdr + sizeof(*tcp))
		return defect(pkt, DROP_TRUNC_L4);
	hook_pull(ctx, l4 + sizeof(*tcp));
	tcp = hook_data(ctx) + l4;
	if ((void *)(tcp + 1) > hook_end(ctx))
		return defect(pkt, DROP_TRUNC_L4);
	__builtin_memcpy(&pkt->key.sport, &tcp->source, 2 * sizeof(tcp->source));
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->tcp_flags = ((__u8 *)tcp)[13];
	pkt->l4_len = tcp->doff * 4;
	if (pkt->l4_len < sizeof(*tcp) || ip_hdr + pkt->l4_len > pkt->ip_len)
		return defect(pkt, DROP_TCP_DOFF);
	if (tcp_flags_absurd(pkt->tcp_flags))
		return defect(pkt, DROP_TCP_FLAGS);
	if (!tcp->source || !tcp->dest)
		return defect(pkt, DROP_PORT0);

	payload = pkt->ip_len - ip_hdr - pkt->l4_len;
	pkt->end = pkt->seq + payload + !!(pkt->tcp_flags & (TCP_SYN | TCP_FIN));
	parse_lengths(ctx, pkt, ip_hdr + pkt->l4_len);
	return 0;
}

static __always_inline int parse_udp(ctx_t *ctx, struct pkt *pkt)
{
	__u32 l4 = pkt->l4 & L4_MASK;
	__u32 ip_hdr = l4 - L3_OFF;
	struct udphdr *udp;
	__u32 len;

	if (pkt->ip_len < ip_hdr + sizeof(*udp))
		return defect(pkt, DROP_TRUNC_L4);
	hook_pull(ctx, l4 + sizeof(*udp));
	udp = hook_data(ctx) + l4;
	if ((void *)(udp + 1) > hook_end(ctx))
		return defect(pkt, DROP_TRUNC_L4);
	pkt->key.sport = udp->source;
	pkt->key.dport = udp->dest;
	pkt->l4_len = sizeof(*udp);
	pkt->no_sum = !udp->check;
	len = bpf_ntohs(udp->len);
	if (len < sizeof(*udp) || ip_hdr + len > pkt->ip_len)
		return defect(pkt, DROP_UDP_LEN);
	if (!udp->source || !udp->dest)
		return defect(pkt, DROP_PORT0);
	parse_lengths(ctx, pkt, ip_hdr + sizeof(*udp));
	return 0;
}

/* Reads the headers. Ethernet frames that are not plain IP for this host, and
 * protocols that are not balanced, are left to the stack. */
static __always_inline int parse(ctx_t *ctx, struct pkt *pkt)
{
	struct ethhdr *eth;
	int rc;

	hook_pull(ctx, ETH_HLEN + IP_HLEN + sizeof(struct tcphdr));
	eth = hook_data(ctx);
	if ((void *)(eth + 1) > hook_end(ctx))
		return STOP_PASS;
	if (HOOK_FINAL && eth->h_proto == bpf_htons(ETH_P_ARP))
		arp_look(ctx);
	if (eth->h_proto != bpf_htons(IP_ETHERTYPE) || hook_tagged(ctx) || hook_other_host(ctx))
		return STOP_PASS;
	rc = ip_parse(ctx, pkt);
	if (rc)
		return rc;
	return pkt->key.proto == IPPROTO_TCP ? parse_tcp(ctx, pkt) : parse_udp(ctx, pkt);
}
