/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From bytes to struct fip_pkt: one packet on its way through a router's program. A
 * step returns 0 = go on, -DROP_x = the packet ends here, or one of the STOP_ values.
 *
 * What is malformed, or wants more than a new address, is left to the stack, which has
 * to be a router for everything else anyway.
 */
#pragma once

#define STOP_PASS 1    /* the stack's, untouched */
#define STOP_FORWARD 2 /* rewritten, may leave */
#define STOP_PUNT 3    /* XDP: the tc program must finish it; nothing was changed */

#define L3_OFF ETH_HLEN
#define IP_HLEN sizeof(struct iphdr)
#define L4_MASK 0x7f /* bounds the offset of the transport header */

#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

#ifndef IPPROTO_DCCP
#define IPPROTO_DCCP 33
#endif

/* What an ICMP error quotes, and where it stands in the packet. */
struct fip_quote {
	__u32 ip;      /* offset of the quoted IP header; 0: it is no error */
	__u32 addr;    /* offset of the quoted address that changes */
	__u32 sum_off; /* offset of the quoted transport's sum; 0: none is quoted */
	struct addr from, to;
	__u16 ip_sum;
	__u16 l4_sum;
	__u16 icmp_sum;
	__u16 pad;
};

struct fip_pkt {
	struct addr saddr, daddr;	/* as it came */
	struct addr to_saddr, to_daddr; /* as it leaves */
	struct addr floating;		/* whose packet it is */
	__u32 leg;			/* which it must leave by */
	__u32 inward;
	__u32 l4;      /* offset of the transport header */
	__u32 ip_len;  /* IP length, of the whole super-packet */
	__u32 segs;    /* segments on the wire */
	__u32 bytes;   /* IP bytes on the wire, all segments */
	__u32 seg_len; /* IP length of the largest segment */
	__u32 sum_off; /* offset of the transport's sum over addresses; 0: it has none */
	__u32 fragment;
	__u32 offset; /* of the fragment, in bytes */
	__u32 resolve;
	__u32 out;
	struct fip_quote quote;
	__u8 proto;
	__u8 ttl;
	__u8 tos;
	__u8 dmac[ETH_ALEN];
	__u8 smac[ETH_ALEN];
};

static __always_inline struct leg *leg_get(ctx_t *ctx)
{
	__u32 device = hook_ifindex(ctx);

	return bpf_map_lookup_elem(&legs, &device);
}

/* Does the frame carry IPv4, without tag, to the leg's own MAC? (A bridge may flood us with
 * what is for others.) */
static __always_inline bool fip_frame(ctx_t *ctx, const struct leg *leg)
{
	struct ethhdr *eth;

	hook_pull(ctx, L3_OFF + IP_HLEN + sizeof(struct tcphdr));
	eth = hook_data(ctx);
	if ((void *)(eth + 1) > hook_end(ctx) || eth->h_proto != bpf_htons(ETH_P_IP) ||
	    hook_tagged(ctx))
		return false;
#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++)
		if (eth->h_dest[i] != leg->mac[i])
			return false;
	return true;
}

/* Reads the IP header. */
static __always_inline int fip_parse(ctx_t *ctx, const struct leg *leg, struct fip_pkt *pkt)
{
	struct iphdr *ip = hook_data(ctx) + L3_OFF;
	__u32 room = hook_len(ctx) - L3_OFF;
	__u16 frag;

	if (!fip_frame(ctx, leg))
		return STOP_PASS;
	ip = hook_data(ctx) + L3_OFF; /* the frame was pulled */
	if ((void *)(ip + 1) > hook_end(ctx))
		return STOP_PASS;
	pkt->saddr.word[0] = pkt->to_saddr.word[0] = ip->saddr;
	pkt->daddr.word[0] = pkt->to_daddr.word[0] = ip->daddr;
	pkt->proto = ip->protocol;
	pkt->ttl = ip->ttl;
	pkt->tos = ip->tos;
	frag = bpf_ntohs(ip->frag_off);
	pkt->fragment = frag & (IP_MF | IP_OFFSET);
	pkt->offset = (frag & IP_OFFSET) * 8;
	pkt->l4 = L3_OFF + IP_HLEN;
	pkt->segs = hook_segments(ctx);
	pkt->ip_len = bpf_ntohs(ip->tot_len);
	if (!pkt->ip_len && pkt->segs > 1)
		pkt->ip_len = room; /* a super-packet above 64 kB has no length */
	if (ip->version != 4 || ip->ihl != 5 || pkt->ip_len < IP_HLEN || pkt->ip_len > room)
		return STOP_PASS;
	return 0;
}

/* Sources that no host has (RFC 1122 3.2.1.3, RFC 1812 5.3.7). */
static __always_inline bool fip_martian(const struct addr *saddr)
{
	__u8 first = bpf_ntohl(saddr->word[0]) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Where a protocol keeps the sum that covers the addresses, too; 0 = nowhere. */
static __always_inline __u32 fip_sum_at(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
		return offsetof(struct udphdr, check);
	default:
		return 0;
	}
}

/* Length of the transport header, of a super-packet's segments. */
static __always_inline __u32 fip_header_len(ctx_t *ctx, const struct fip_pkt *pkt)
{
	struct tcphdr *tcp = hook_data(ctx) + (pkt->l4 & L4_MASK);

	if (pkt->proto != IPPROTO_TCP)
		return sizeof(struct udphdr);
	return (void *)(tcp + 1) > hook_end(ctx) ? sizeof(*tcp) : tcp->doff * 4;
}

/* Looks at what is behind the IP header: only for the sum that covers the addresses. A
 * fragment that would have it, but is cut so that it stands in another one, is nobody's
 * in good faith (RFC 1858). */
static __always_inline int fip_transport(ctx_t *ctx, struct fip_pkt *pkt)
{
	__u32 at = fip_sum_at(pkt->proto), headers;
	__u32 len = pkt->ip_len - IP_HLEN;
	__u16 *sum;

	pkt->bytes = pkt->seg_len = pkt->ip_len;
	if (pkt->offset)
		return at && pkt->offset < at + sizeof(*sum) ? -DROP_FRAG : 0;
	if (!at)
		return 0;
	if (len < at + sizeof(*sum))
		return pkt->fragment ? -DROP_FRAG : -DROP_TRUNC_L4;
	sum = hook_data(ctx) + (pkt->l4 & L4_MASK) + at;
	if ((void *)(sum + 1) > hook_end(ctx))
		return -DROP_TRUNC_L4;
	if (pkt->proto != IPPROTO_UDP || *sum)
		pkt->sum_off = pkt->l4 + at;
	if (!hook_segment_size(ctx))
		return 0;
	headers = IP_HLEN + fip_header_len(ctx, pkt);
	pkt->bytes = pkt->ip_len + (pkt->segs - 1) * headers;
	pkt->seg_len = headers + hook_segment_size(ctx);
	return 0;
}
