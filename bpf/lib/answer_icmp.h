/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors of our own, from the VIP to the sender of a packet that cannot travel
 * on: its hops are spent, or it is larger than the next link (RFC 792, RFC 1191, RFC 4443),
 * or nobody is there to take a datagram. They quote the packet as it came: IP header
 * and transport header.
 */
#pragma once

#define QUOTE_MAX (IP_HLEN + sizeof(struct tcphdr))
#define ICMP_ROOM (IP_HLEN + ICMP_HLEN)

struct answer_icmp {
	__u16 pad; /* so that what follows Ethernet is aligned */
	struct ethhdr eth;
	ip_header ip;
	struct icmp_header icmp;
	__u8 quote[QUOTE_MAX]; /* what is not there is 0, and adds nothing to the sum */
};

/* A partial sum will be completed by a device, in the quote: here is what it will
 * write there, which the ICMP sum must count on. */
static __always_inline void quote_complete(struct answer_icmp *f, bool udp)
{
	__u8 *l4 = f->quote + IP_HLEN;
	__u16 *sum = (__u16 *)(l4 + (udp ? UDP_SUM_OFF : TCP_SUM_OFF));

	*sum = ~csum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)l4, sizeof(struct tcphdr), 0));
	if (udp && !*sum)
		*sum = 0xffff;
}

static __always_inline void answer_icmp_build(const struct pkt *pkt, struct answer_icmp *f,
					      __u32 quote)
{
	__u64 pseudo = icmp_pseudo(&pkt->key.daddr, &pkt->key.saddr, ICMP_HLEN + quote);

	f->eth.h_proto = bpf_htons(IP_ETHERTYPE);
	ip_build(&f->ip, &pkt->key.daddr, &pkt->key.saddr, PROTO_ICMP, ICMP_HLEN + quote);
	icmp_fill(&f->icmp, pkt->answer, pkt->mtu);
	f->icmp.sum = ~csum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&f->icmp,
						      ICMP_HLEN + QUOTE_MAX, csum_fold32(pseudo)));
}

/* Cuts the packet to what is quoted; 0 = done. */
static __always_inline int quote_cut(ctx_t *ctx, struct answer_icmp *f, bool udp)
{
	if (udp)
		return bpf_skb_change_tail(ctx, L3_OFF + IP_HLEN + sizeof(struct udphdr), 0) ||
		       bpf_skb_load_bytes(ctx, L3_OFF, f->quote, IP_HLEN + sizeof(struct udphdr));
	return bpf_skb_change_tail(ctx, L3_OFF + QUOTE_MAX, 0) ||
	       bpf_skb_load_bytes(ctx, L3_OFF, f->quote, QUOTE_MAX);
}

/* Turns the packet into the error. 0, or it must be dropped without an answer. */
static INLINE_IF_SMALL int answer_icmp(ctx_t *ctx, struct pkt *pkt, const __u8 *macs)
{
	bool udp = pkt->key.proto == IPPROTO_UDP;
	__u32 sum_off = udp ? UDP_SUM_OFF : TCP_SUM_OFF;
	struct answer_icmp f = {};
	bool partial;

	if (quote_cut(ctx, &f, udp))
		return -1;
	partial = csum_is_partial(ctx, L3_OFF + IP_HLEN + sum_off);
	if (bpf_skb_store_bytes(ctx, L3_OFF + IP_HLEN, f.quote + IP_HLEN, sizeof(struct udphdr),
				0) ||
	    (!udp && bpf_skb_store_bytes(ctx, L3_OFF + IP_HLEN, f.quote + IP_HLEN,
					 sizeof(struct tcphdr), 0)) ||
	    bpf_skb_adjust_room(ctx, ICMP_ROOM, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	__builtin_memcpy(f.eth.h_dest, macs, ETH_ALEN);
	__builtin_memcpy(f.eth.h_source, macs + ETH_ALEN, ETH_ALEN);
	if (partial)
		quote_complete(&f, udp);
	answer_icmp_build(pkt, &f, IP_HLEN + (udp ? sizeof(struct udphdr) : sizeof(struct tcphdr)));
	return bpf_skb_store_bytes(ctx, 0, &f.eth, ETH_HLEN + ICMP_ROOM, 0);
}
