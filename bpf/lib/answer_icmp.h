/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors of our own, from the VIP to the sender of a packet that cannot travel
 * on: its hops are spent, or it is larger than the next link (RFC 792, RFC 1191). They
 * quote the packet as it came, IP header and the first 20 bytes behind it.
 */
#pragma once

#define QUOTE_LEN (sizeof(struct iphdr) + sizeof(struct tcphdr))
#define ICMP_ROOM (sizeof(struct iphdr) + ICMP_HLEN)

struct answer_icmp {
	__u16 pad; /* so that what follows Ethernet is aligned */
	struct ethhdr eth;
	struct iphdr ip;
	struct icmp_header icmp;
	__u8 quote[QUOTE_LEN];
};

/* A partial sum will be completed by a device, in the quote: here is what it will
 * write there, which the ICMP sum must count on. */
static __always_inline void quote_complete(struct answer_icmp *f)
{
	struct tcphdr *tcp = (struct tcphdr *)(f->quote + sizeof(struct iphdr));

	tcp->check = ~csum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(*tcp), 0));
}

static __always_inline void answer_icmp_build(const struct pkt *pkt, struct answer_icmp *f)
{
	f->eth.h_proto = bpf_htons(ETH_P_IP);
	f->ip.version = 4;
	f->ip.ihl = 5;
	f->ip.tot_len = bpf_htons(ICMP_ROOM + QUOTE_LEN);
	f->ip.ttl = ANSWER_TTL;
	f->ip.protocol = IPPROTO_ICMP;
	f->ip.saddr = pkt->key.daddr.word[0];
	f->ip.daddr = pkt->key.saddr.word[0];
	f->ip.check = ~csum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)&f->ip, sizeof(f->ip), 0));
	if (pkt->answer == ANSWER_FRAG_NEEDED) {
		f->icmp.type = ICMP_T_UNREACHABLE;
		f->icmp.code = ICMP_C_FRAG_NEEDED;
		f->icmp.mtu = bpf_htons(pkt->mtu);
	} else {
		f->icmp.type = ICMP_T_TIME_EXCEEDED;
	}
	f->icmp.sum = ~csum_fold(
		(__u32)bpf_csum_diff(NULL, 0, (__be32 *)&f->icmp, sizeof(f->icmp) + QUOTE_LEN, 0));
}

/* Turns the packet into the error. 0, or it must be dropped without an answer. */
static __noinline int answer_icmp(ctx_t *ctx, struct pkt *pkt, const __u8 *macs)
{
	struct answer_icmp f = {};
	bool partial;

	if (pkt->key.proto != IPPROTO_TCP)
		return -1;
	if (bpf_skb_change_tail(ctx, L3_OFF + QUOTE_LEN, 0) ||
	    bpf_skb_load_bytes(ctx, L3_OFF, f.quote, QUOTE_LEN))
		return -1;
	partial = csum_is_partial(ctx);
	if (bpf_skb_store_bytes(ctx, L3_OFF, f.quote, QUOTE_LEN, 0) ||
	    bpf_skb_adjust_room(ctx, ICMP_ROOM, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	__builtin_memcpy(f.eth.h_dest, macs, ETH_ALEN);
	__builtin_memcpy(f.eth.h_source, macs + ETH_ALEN, ETH_ALEN);
	if (partial)
		quote_complete(&f);
	answer_icmp_build(pkt, &f);
	return bpf_skb_store_bytes(ctx, 0, &f.eth, ETH_HLEN + ICMP_ROOM, 0);
}
