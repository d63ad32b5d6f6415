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

#define ICMP_HLEN 8
#define ICMP_QUOTE_MIN 8 /* bytes of the transport header, RFC 792 */
#define TCP_SUM_END 18	 /* bytes of a TCP header up to the end of its sum */
#define ICMP_MTU_MIN 552 /* no path is narrower, but forgers would like it */

enum icmp_type {
	ICMP_T_ECHO_REPLY = 0,
	ICMP_T_UNREACHABLE = 3,
	ICMP_T_ECHO = 8,
	ICMP_T_TIME_EXCEEDED = 11,
	ICMP_T_PARAMETER = 12,
};

#define ICMP_C_FRAG_NEEDED 4

struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 sum;
	__be16 unused;
	__be16 mtu;
};

/* What is quoted, and where it stands in the packet. */
struct icmp_quote {
	struct flow_key key; /* of an answer to the quoted packet */
	struct icmp_header icmp;
	__u32 ip;  /* offset of the quoted IP header */
	__u32 l4;  /* offset of the quoted transport header */
	__u32 len; /* bytes there from l4 on */
	__u32 seq; /* TCP sequence number */
	__u16 ip_sum;
	__u16 l4_sum;
};

#define SUM_CHUNK 64

struct sum_walk {
	ctx_t *ctx;
	__u32 off;
	__u32 end;
	__u32 sum;
	__u32 failed;
};

/* Adds up to SUM_CHUNK bytes; a last odd byte counts as the high one of its pair. */
static long sum_step(__u32 step __attribute__((unused)), struct sum_walk *walk)
{
	__u8 chunk[SUM_CHUNK] = {};
	__u32 len = walk->end - walk->off;

	if (walk->off >= walk->end)
		return 1;
	barrier_var(len); /* the verifier must see that it is 1..SUM_CHUNK */
	if (len == 0 || len > SUM_CHUNK)
		len = SUM_CHUNK;
	if (hook_load(walk->ctx, walk->off, chunk, len)) {
		walk->failed = 1;
		return 1;
	}
	walk->sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, SUM_CHUNK, walk->sum);
	walk->off += len;
	return 0;
}

/* Is the internet checksum over these bytes right? */
static __noinline int sum_right(ctx_t *ctx, __u32 off, __u32 len)
{
	struct sum_walk walk = { .ctx = ctx, .off = off, .end = off + len };

	bpf_loop(1 + 65536 / SUM_CHUNK, sum_step, &walk, 0);
	return !walk.failed && csum_fold(walk.sum) == 0xffff;
}

/* Reads the quote. -DROP_ICMP_INNER where there is none that could be ours. */
static __always_inline int icmp_read_quote(ctx_t *ctx, struct pkt *pkt, struct icmp_quote *q)
{
	__u32 end = L3_OFF + pkt->ip_len;
	struct {
		__be16 sport, dport;
		__be32 seq;
	} l4;
	struct iphdr ip;

	q->ip = pkt->l4 + ICMP_HLEN;
	if (q->ip + sizeof(ip) > end || hook_load(ctx, q->ip, &ip, sizeof(ip)))
		return -DROP_ICMP_INNER;
	if (ip.version != 4 || ip.ihl < 5 || (ip.frag_off & bpf_htons(0x1fff)))
		return -DROP_ICMP_INNER;
	q->l4 = q->ip + ip.ihl * 4;
	q->ip_sum = ip.check;
	q->key.saddr.word[0] = ip.daddr;
	q->key.daddr.word[0] = ip.saddr;
	q->key.proto = ip.protocol;
	if (ip.protocol != IPPROTO_TCP)
		return STOP_PASS; /* of the namespace's own, if of anybody here */
	if (q->l4 + ICMP_QUOTE_MIN > end || hook_load(ctx, q->l4, &l4, sizeof(l4)))
		return -DROP_ICMP_INNER;
	q->len = end - q->l4;
	q->key.sport = l4.dport;
	q->key.dport = l4.sport;
	q->seq = bpf_ntohl(l4.seq);
	if (q->len >= TCP_SUM_END)
		hook_load(ctx, q->l4 + TCP_SUM_END - 2, &q->l4_sum, sizeof(q->l4_sum));
	return 0;
}

/* Errors that somebody may have translated; everything else of ICMP is the stack's,
 * or nobody's. */
static __always_inline int icmp_admit(struct icmp_quote *q)
{
	switch (q->icmp.type) {
	case ICMP_T_ECHO:
	case ICMP_T_ECHO_REPLY:
		return STOP_PASS;
	case ICMP_T_UNREACHABLE:
		if (q->icmp.code == ICMP_C_FRAG_NEEDED && bpf_ntohs(q->icmp.mtu) < ICMP_MTU_MIN)
			return -DROP_ICMP_MTU;
		return 0;
	case ICMP_T_TIME_EXCEEDED:
	case ICMP_T_PARAMETER:
		return 0;
	default:
		return -DROP_ICMP_TYPE;
	}
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

	mate_key(&key, flow, q->key.proto);
	sender = bpf_map_lookup_elem(&flows, &key);
	return !sender || in_reach(q->seq, sender->next);
}

static __always_inline int icmp_check(ctx_t *ctx, const struct pkt *pkt, const struct icmp_quote *q,
				      const struct flow *flow)
{
	if (!sum_right(ctx, pkt->l4, L3_OFF + pkt->ip_len - pkt->l4) ||
	    !sum_right(ctx, q->ip, q->l4 - q->ip))
		return -DROP_ICMP_CSUM;
	return icmp_plausible(q, flow) ? 0 : -DROP_ICMP_SEQ;
}

/* Rewrites the quote, and adds what that does to the ICMP sum. The quote's own IP sum
 * takes back what its addresses change, and its transport sum, if it is there, what
 * its ports change as well. */
static __always_inline int icmp_rewrite_quote(ctx_t *ctx, const struct icmp_quote *q,
					      const struct flow *flow, __u64 *diff)
{
	__u64 addrs =
		csum_addr(&q->key.saddr, &flow->saddr) + csum_addr(&q->key.daddr, &flow->daddr);
	__u16 sum = ~csum_fold((__u64)(__u16)~q->ip_sum + addrs);

	*diff = (__u64)(__u16)~q->key.sport + flow->sport + (__u16)~q->key.dport + flow->dport;
	if (hook_store(ctx, q->ip + 10, &sum, sizeof(sum)) ||
	    hook_store(ctx, q->ip + 12, &flow->daddr, sizeof(flow->daddr)) ||
	    hook_store(ctx, q->ip + 16, &flow->saddr, sizeof(flow->saddr)) ||
	    hook_store(ctx, q->l4, &flow->dport, sizeof(flow->dport)) ||
	    hook_store(ctx, q->l4 + 2, &flow->sport, sizeof(flow->sport)))
		return -DROP_INTERNAL;
	if (q->len < TCP_SUM_END)
		return 0;
	sum = ~csum_fold((__u64)(__u16)~q->l4_sum + addrs + *diff);
	if (hook_store(ctx, q->l4 + TCP_SUM_END - 2, &sum, sizeof(sum)))
		return -DROP_INTERNAL;
	*diff += (__u64)(__u16)~q->l4_sum + sum;
	return 0;
}

static __always_inline int icmp_rewrite(ctx_t *ctx, struct pkt *pkt, const struct icmp_quote *q,
					const struct flow *flow)
{
	struct icmp_header icmp = q->icmp;
	struct ethhdr *eth;
	struct iphdr *ip;
	__u64 diff;
	int rc;

	rc = icmp_rewrite_quote(ctx, q, flow, &diff);
	if (rc)
		return rc;
	icmp.sum = ~csum_fold((__u64)(__u16)~icmp.sum + diff);
	if (hook_store(ctx, pkt->l4, &icmp, sizeof(icmp)))
		return -DROP_INTERNAL;
	hook_pull(ctx, L3_OFF + sizeof(*ip));
	eth = hook_data(ctx);
	ip = hook_data(ctx) + L3_OFF;
	if ((void *)(ip + 1) > hook_end(ctx))
		return -DROP_INTERNAL;
	ip_rewrite(ip, flow,
		   csum_addr(&pkt->key.saddr, &flow->saddr) +
			   csum_addr(&pkt->key.daddr, &flow->daddr));
	eth_rewrite(eth, pkt);
	return STOP_FORWARD;
}

/* ICMP to the VIP. */
static __noinline int icmp_packet(ctx_t *ctx, struct pkt *pkt)
{
	struct icmp_quote q = {};
	struct flow *flow;
	int rc;

	if (!to_vip(pkt))
		return STOP_PASS;
	if (!HOOK_FINAL)
		return STOP_PUNT; /* too rare for the fast lane */
	if (pkt->ip_len < pkt->l4 - L3_OFF + ICMP_HLEN ||
	    hook_load(ctx, pkt->l4, &q.icmp, sizeof(q.icmp)))
		return -DROP_TRUNC_L4;
	rc = icmp_admit(&q);
	if (!rc)
		rc = icmp_read_quote(ctx, pkt, &q);
	if (rc)
		return rc;
	flow = icmp_flow(&q);
	if (!flow) /* the namespace's own sockets have the ports above ours */
		return port_pos(q.key.dport) < NAT_PORTS ? -DROP_ICMP_NOMAP : STOP_PASS;
	rc = icmp_check(ctx, pkt, &q, flow);
	if (!rc && ttl_spent(pkt))
		rc = -DROP_TTL;
	if (!rc)
		rc = route(ctx, pkt, flow);
	return rc ? rc : icmp_rewrite(ctx, pkt, &q, flow);
}
