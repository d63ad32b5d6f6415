/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors about packets that we have sent on, in either direction: a router or
 * the addressee could not take one. The quoted packet carries our addresses; its
 * sender knows it by others. So the error is turned back into what the sender would
 * have got without us (RFC 5508, section 4): the quote and every sum with it.
 *
 * A quote may be as short as 8 bytes of its transport header; what is not there is
 * not touched. Nothing that an error says changes any state of ours: it can be
 * forged.
 */
#pragma once

/* Where the quoted transport header's sum stands, or would stand. */
static __always_inline __u32 quote_sum_off(const struct icmp_quote *q)
{
	return q->key.proto == IPPROTO_UDP ? UDP_SUM_OFF : TCP_SUM_OFF;
}

/* Is the sum quoted, and is there one? */
static __always_inline bool quote_has_sum(const struct icmp_quote *q)
{
	return q->len >= quote_sum_off(q) + sizeof(q->l4_sum) &&
	       (q->key.proto != IPPROTO_UDP || q->l4_sum);
}

/* About what the namespace's own stack has sent: it pings, and answers pings. Never about
 * an error (RFC 1122, 3.2.2). Nor that it was too big: the stack would believe whoever
 * says so, and every flow that goes the same way would have to make its segments smaller. */
static __always_inline int quote_of_stack(ctx_t *ctx, const struct icmp_quote *q)
{
	__u8 type;

	if (q->key.proto != PROTO_ICMP || hook_load(ctx, q->l4, &type, sizeof(type)))
		return -DROP_ICMP_INNER;
	if (type != ICMP_N_ECHO && type != ICMP_N_ECHO_REPLY)
		return -DROP_ICMP_INNER;
	return icmp_too_big(&q->icmp) ? -DROP_ICMP_INNER : STOP_PASS;
}

/* Reads the quote. -DROP_ICMP_INNER where there is none that could be ours. */
static __always_inline int icmp_read_quote(ctx_t *ctx, struct pkt *pkt, struct icmp_quote *q)
{
	__u32 end = L3_OFF + pkt->ip_len;
	struct {
		__be16 sport, dport;
		__be32 seq;
	} l4;
	int rc;

	q->ip = pkt->l4 + ICMP_HLEN;
	if (q->ip + IP_HLEN > end)
		return -DROP_ICMP_INNER;
	rc = quote_ip(ctx, q);
	if (rc)
		return rc;
	if (addr_multicast(&q->key.saddr))
		return -DROP_ICMP_INNER; /* no error is about a packet for many */
	if (q->key.proto != IPPROTO_TCP && q->key.proto != IPPROTO_UDP)
		return quote_of_stack(ctx, q);
	if (q->l4 + ICMP_QUOTE_MIN > end || hook_load(ctx, q->l4, &l4, sizeof(l4)))
		return -DROP_ICMP_INNER;
	q->len = end - q->l4;
	q->key.sport = l4.dport;
	q->key.dport = l4.sport;
	q->seq = bpf_ntohl(l4.seq);
	if (q->len >= quote_sum_off(q) + sizeof(q->l4_sum))
		hook_load(ctx, q->l4 + quote_sum_off(q), &q->l4_sum, sizeof(q->l4_sum));
	return 0;
}

/* The flow, or handshake, that an answer to the quoted packet would belong to. */
static __always_inline struct flow *icmp_flow(const struct icmp_quote *q)
{
	struct half_open_key key = { .pool = pool_number, .tuple = q->key };
	struct flow *flow = bpf_map_lookup_elem(&flows, &q->key);
	struct half_open *half;

	if (flow)
		return flow;
	half = bpf_map_lookup_elem(&half_open, &key);
	return half ? &half->flow : NULL;
}

/* Did the quoted segment go this way a short while ago? A blind forger does not know
 * the numbers. */
static __always_inline bool icmp_plausible(const struct icmp_quote *q, const struct flow *flow)
{
	struct flow_key key = {};
	struct flow *sender;

	if (q->key.proto != IPPROTO_TCP)
		return true; /* UDP has no numbers */
	mate_key(&key, flow, q->key.proto);
	sender = bpf_map_lookup_elem(&flows, &key);
	return !sender || in_reach(q->seq - seq_shift(sender), sender->next);
}

static __always_inline int icmp_check(ctx_t *ctx, const struct pkt *pkt, const struct icmp_quote *q,
				      const struct flow *flow)
{
	__u32 len = L3_OFF + pkt->ip_len - pkt->l4;

	if (!sum_right(ctx, pkt->l4, len, icmp_pseudo(&pkt->key.saddr, &pkt->key.daddr, len)) ||
	    !quote_ip_right(ctx, q))
		return -DROP_ICMP_CSUM;
	return icmp_plausible(q, flow) ? 0 : -DROP_ICMP_SEQ;
}

/* Rewrites the quote, and adds what that does to the ICMP sum. The quote's transport
 * sum, if it is there, takes back what its addresses and ports change. */
static __always_inline int icmp_rewrite_quote(ctx_t *ctx, const struct icmp_quote *q,
					      const struct flow *flow, __u64 addr_diff, __u64 *diff)
{
	__u64 ports =
		(__u64)(__u16)~q->key.sport + flow->sport + (__u16)~q->key.dport + flow->dport;
	__be32 seq;
	__u16 sum;
	int rc;

	*diff = ports;
	/* To the member, in its own numbers. */
	if ((flow->state & (FLOW_COOKIE | FLOW_MEMBER_SIDE)) == FLOW_COOKIE) {
		seq = bpf_htonl(q->seq - flow->shift);
		ports += csum_word(bpf_htonl(q->seq), seq);
		*diff = ports;
		if (hook_store(ctx, q->l4 + offsetof(struct tcphdr, seq), &seq, sizeof(seq)))
			return -DROP_INTERNAL;
	}
	rc = quote_ip_rewrite(ctx, q, flow, addr_diff, diff);
	if (rc)
		return rc;
	if (hook_store(ctx, q->l4, &flow->dport, sizeof(flow->dport)) ||
	    hook_store(ctx, q->l4 + sizeof(flow->dport), &flow->sport, sizeof(flow->sport)))
		return -DROP_INTERNAL;
	if (!quote_has_sum(q))
		return 0;
	sum = ~csum_fold((__u64)(__u16)~q->l4_sum + addr_diff + ports);
	if (hook_store(ctx, q->l4 + quote_sum_off(q), &sum, sizeof(sum)))
		return -DROP_INTERNAL;
	*diff += (__u64)(__u16)~q->l4_sum + sum;
	return 0;
}

static __always_inline int icmp_rewrite(ctx_t *ctx, struct pkt *pkt, const struct icmp_quote *q,
					const struct flow *flow)
{
	struct icmp_header icmp = q->icmp;
	struct ethhdr *eth;
	ip_header *ip;
	__u64 outer, diff;
	int rc;

	rc = icmp_rewrite_quote(ctx, q, flow,
				csum_addr(&q->key.saddr, &flow->saddr) +
					csum_addr(&q->key.daddr, &flow->daddr),
				&diff);
	if (rc)
		return rc;
	outer = csum_addr(&pkt->key.saddr, &flow->saddr) + csum_addr(&pkt->key.daddr, &flow->daddr);
	icmp.sum = ~csum_fold((__u64)(__u16)~icmp.sum + diff + icmp_addr_diff(outer));
	if (hook_store(ctx, pkt->l4, &icmp, sizeof(icmp)))
		return -DROP_INTERNAL;
	hook_hop(ctx);
	hook_pull(ctx, L3_OFF + IP_HLEN);
	eth = hook_data(ctx);
	ip = hook_data(ctx) + L3_OFF;
	if ((void *)(ip + 1) > hook_end(ctx))
		return -DROP_INTERNAL;
	ip_rewrite(ip, flow, outer);
	eth_rewrite(eth, pkt);
	return STOP_FORWARD;
}

/* About a packet that is in no table of ours: the namespace's own sockets have the ports
 * above ours, and the sidecar's any. */
static __always_inline int icmp_of_stack(ctx_t *ctx, const struct icmp_quote *q)
{
	struct vip *vip = vip_get();

	if (port_pos(q->key.dport) >= NAT_PORTS || (vip && socket_of(ctx, vip, &q->key)))
		return STOP_PASS;
	return -DROP_ICMP_NOMAP;
}

/* ICMP to us. */
__noinline int icmp_packet(ctx_t *ctx, struct pkt *pkt)
{
	struct icmp_quote q = {};
	struct flow *flow;
	int rc;

	if (!pkt)
		return STOP_PASS;
	if (HOOK_FINAL)
		neighbour_look(ctx, pkt);
	if (!addr_ours(&pkt->key.daddr))
		return STOP_PASS;
	if (!HOOK_FINAL)
		return STOP_PUNT; /* too rare for the fast lane */
	if (pkt->ip_len < pkt->l4 - L3_OFF + ICMP_HLEN ||
	    hook_load(ctx, pkt->l4, &q.icmp, sizeof(q.icmp)))
		return -DROP_TRUNC_L4;
	rc = icmp_admit(&q.icmp);
	if (!rc)
		rc = icmp_read_quote(ctx, pkt, &q);
	if (rc)
		return rc;
	flow = icmp_flow(&q);
	if (!flow)
		return icmp_of_stack(ctx, &q);
	rc = icmp_check(ctx, pkt, &q, flow);
	if (!rc && ttl_spent(pkt))
		rc = -DROP_TTL;
	if (!rc)
		rc = route(ctx, pkt, flow);
	return rc ? rc : icmp_rewrite(ctx, pkt, &q, flow);
}
