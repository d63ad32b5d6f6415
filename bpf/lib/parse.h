/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From bytes to struct pkt. Lengths are taken from the headers and held against
 * each other and against the frame; nothing stands at an assumed offset but the
 * IP header behind Ethernet.
 */
#pragma once

#define L3_OFF ETH_HLEN
#define IP_DF 0x4000
#define IP_MF_OFFSET 0x3fff /* more fragments, or not the first */

/* Is the packet addressed to the VIP, or (with no VIP) nobody's? */
static __always_inline bool to_vip(const struct pkt *pkt)
{
	const struct vip *vip = vip_get();

	return vip && pkt->key.daddr.word[0] == vip->addr.word[0];
}

/* A defect of a packet for somebody else is somebody else's. */
static __always_inline int defect(const struct pkt *pkt, int reason)
{
	return to_vip(pkt) ? -reason : STOP_PASS;
}

static __always_inline int parse_ip4(ctx_t *ctx, struct pkt *pkt)
{
	struct iphdr *ip = hook_data(ctx) + L3_OFF;
	__u32 room = hook_len(ctx) - L3_OFF;
	__u32 hdr;

	if ((void *)(ip + 1) > hook_end(ctx))
		return -DROP_TRUNC_L3;
	pkt->key.saddr.word[0] = ip->saddr;
	pkt->key.daddr.word[0] = ip->daddr;
	pkt->key.proto = ip->protocol;
	pkt->ttl = ip->ttl;
	pkt->tos = ip->tos;
	pkt->df = ip->frag_off & bpf_htons(IP_DF);
	pkt->segs = hook_segments(ctx);
	pkt->ip_len = bpf_ntohs(ip->tot_len);
	if (!pkt->ip_len && pkt->segs > 1)
		pkt->ip_len = room; /* a super-packet above 64 kB has no length */
	hdr = ip->ihl * 4;
	pkt->l4 = L3_OFF + hdr;
	if (ip->version != 4)
		return -DROP_IP_VER;
	if (pkt->key.proto != IPPROTO_TCP && pkt->key.proto != IPPROTO_ICMP)
		return STOP_PASS;
	if (hdr < sizeof(*ip))
		return defect(pkt, DROP_IP_IHL);
	if (pkt->ip_len < hdr || pkt->ip_len > room)
		return defect(pkt, DROP_IP_LEN);
	if (hook_broadcast(ctx))
		return defect(pkt, DROP_L2_BCAST);
	if (pkt->key.proto == IPPROTO_ICMP)
		return ip->frag_off & bpf_htons(IP_MF_OFFSET) ? STOP_PASS : STOP_ICMP;
	if (ip->frag_off & bpf_htons(IP_MF_OFFSET))
		return defect(pkt, DROP_FRAG);
	return 0;
}

/* Flags that no TCP sends: nothing that opens, continues or ends a connection, or
 * two of these at once. */
static __always_inline bool tcp_flags_absurd(__u8 flags)
{
	if (!(flags & (TCP_SYN | TCP_RST | TCP_ACK)))
		return true;
	return (flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST));
}

static __always_inline int parse_tcp(ctx_t *ctx, struct pkt *pkt)
{
	__u32 l4 = pkt->l4 & 0x7f;
	__u32 ip_hdr = l4 - L3_OFF;
	struct tcphdr *tcp;
	__u32 payload;

	if (pkt->ip_len < ip_hdr + sizeof(*tcp))
		return defect(pkt, DROP_TRUNC_L4);
	hook_pull(ctx, l4 + sizeof(*tcp));
	tcp = hook_data(ctx) + l4;
	if ((void *)(tcp + 1) > hook_end(ctx))
		return defect(pkt, DROP_TRUNC_L4);
	pkt->key.sport = tcp->source;
	pkt->key.dport = tcp->dest;
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->tcp_flags = ((__u8 *)tcp)[13];
	pkt->tcp_len = tcp->doff * 4;
	if (pkt->tcp_len < sizeof(*tcp) || ip_hdr + pkt->tcp_len > pkt->ip_len)
		return defect(pkt, DROP_TCP_DOFF);
	if (tcp_flags_absurd(pkt->tcp_flags))
		return defect(pkt, DROP_TCP_FLAGS);
	if (!tcp->source || !tcp->dest)
		return defect(pkt, DROP_PORT0);

	payload = pkt->ip_len - ip_hdr - pkt->tcp_len;
	pkt->end = pkt->seq + payload + !!(pkt->tcp_flags & (TCP_SYN | TCP_FIN));
	pkt->bytes = pkt->ip_len + (pkt->segs - 1) * (ip_hdr + pkt->tcp_len);
	pkt->seg_len = hook_segment_size(ctx) ? ip_hdr + pkt->tcp_len + hook_segment_size(ctx) :
						pkt->ip_len;
	return 0;
}

/* Reads the headers. Ethernet frames that are not plain IP for this host, and
 * protocols that are not balanced, are left to the stack. */
static __always_inline int parse(ctx_t *ctx, struct pkt *pkt)
{
	struct ethhdr *eth;
	int rc;

	hook_pull(ctx, ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr));
	eth = hook_data(ctx);
	if ((void *)(eth + 1) > hook_end(ctx))
		return STOP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || hook_tagged(ctx) || hook_other_host(ctx))
		return STOP_PASS;
	rc = parse_ip4(ctx, pkt);
	return rc ? rc : parse_tcp(ctx, pkt);
}
