/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rewrite: addresses, ports, timestamp or numbers, TTL and MAC addresses, with sums that
 * change by exactly what changed. A sum that was wrong stays wrong, so that the
 * receiver still finds out.
 */
#pragma once

/* Shifts the client's timestamp, or the member's echo of it, in the packet; adds
 * what that does to the TCP sum. */
static __always_inline int timestamp_shift(ctx_t *ctx, struct pkt *pkt, const struct flow *flow,
					   __u64 *diff)
{
	__u32 off = timestamp_find(ctx, pkt);
	__be32 from, to;

	if (!off)
		return 0;
	if (flow->state & FLOW_MEMBER_SIDE)
		off += 4; /* TSecr */
	if (hook_load(ctx, off, &from, sizeof(from)))
		return 0;
	if (flow->state & FLOW_MEMBER_SIDE) {
		if (!(pkt->tcp_flags & TCP_ACK) || !from)
			return 0; /* echoes nothing */
		to = bpf_htonl(bpf_ntohl(from) - flow->shift);
	} else {
		to = bpf_htonl(bpf_ntohl(from) + flow->shift);
	}
	if (hook_store(ctx, off, &to, sizeof(to)))
		return -DROP_INTERNAL;
	*diff += csum_odd(csum_word(from, to), off);
	return 0;
}

/* The member's numbers are not those that we have given the client: shifts the
 * member's own, or the client's acknowledgment of them. */
static __always_inline int number_shift(ctx_t *ctx, const struct pkt *pkt, const struct flow *flow,
					__u64 *diff)
{
	bool member = flow->state & FLOW_MEMBER_SIDE;
	__u32 off = pkt->l4 +
		    (member ? offsetof(struct tcphdr, seq) : offsetof(struct tcphdr, ack_seq));
	__be32 from = bpf_htonl(member ? pkt->seq : pkt->ack);
	__be32 to = bpf_htonl(member ? pkt->seq + flow->shift : pkt->ack - flow->shift);

	if (!member && !(pkt->tcp_flags & TCP_ACK))
		return 0;
	if (hook_store(ctx, off, &to, sizeof(to)))
		return -DROP_INTERNAL;
	*diff += csum_word(from, to);
	return 0;
}

static __always_inline void eth_rewrite(struct ethhdr *eth, const struct pkt *pkt)
{
	if (pkt->resolve)
		return; /* the kernel fills it in */
	__builtin_memcpy(eth->h_dest, pkt->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, pkt->smac, ETH_ALEN);
}

static __always_inline int nat_headers(ctx_t *ctx, struct pkt *pkt, const struct flow *flow,
				       __u64 addr_diff)
{
	__u32 l4 = pkt->l4 & L4_MASK;
	struct ethhdr *eth = hook_data(ctx);
	ip_header *ip = hook_data(ctx) + L3_OFF;
	__be16 *ports = hook_data(ctx) + l4;

	if ((void *)(ip + 1) > hook_end(ctx) || (void *)(ports + 2) > hook_end(ctx))
		return -DROP_INTERNAL;
	ip_rewrite(ip, flow, addr_diff);
	ports[0] = flow->sport;
	ports[1] = flow->dport;
	eth_rewrite(eth, pkt);
	return 0;
}

/* A function of its own for its stack: IPv6 has eight words to hold. */
static INLINE_IF_SMALL __u64 nat_addr_diff(const struct pkt *pkt, const struct flow *flow)
{
	return csum_addr(&pkt->key.saddr, &flow->saddr) + csum_addr(&pkt->key.daddr, &flow->daddr);
}

static __always_inline int nat_apply(ctx_t *ctx, struct pkt *pkt, const struct flow *flow)
{
	bool udp = pkt->key.proto == IPPROTO_UDP;
	__u64 addr_diff, diff;
	int rc;

	addr_diff = nat_addr_diff(pkt, flow);
	diff = (__u64)(__u16)~pkt->key.sport + flow->sport + (__u16)~pkt->key.dport + flow->dport;
	if (!udp && (flow->state & FLOW_TIMESTAMPS)) {
		rc = timestamp_shift(ctx, pkt, flow, &diff);
		if (rc)
			return rc;
	} else if (flow->state & FLOW_COOKIE) {
		rc = number_shift(ctx, pkt, flow, &diff);
		if (rc)
			return rc;
	}
	if (!pkt->no_sum && hook_csum(ctx, pkt->l4 + (udp ? UDP_SUM_OFF : TCP_SUM_OFF),
				      csum_fold32(addr_diff), csum_fold32(diff), udp))
		return -DROP_INTERNAL;
	hook_hop(ctx);
	hook_pull(ctx, (pkt->l4 & L4_MASK) + sizeof(struct udphdr));
	return nat_headers(ctx, pkt, flow, addr_diff);
}

static __always_inline void member_count(const struct pkt *pkt, const struct flow *flow)
{
	struct member_counters *c = counters_get(flow->slot);

	if (!c)
		return;
	if (flow->state & FLOW_MEMBER_SIDE) {
		c->packets_out += pkt->segs;
		c->bytes_out += pkt->bytes;
	} else {
		c->packets_in += pkt->segs;
		c->bytes_in += pkt->bytes;
	}
}
