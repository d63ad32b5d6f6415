/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Floating IPs: a packet's life in a router's program, top to bottom. It runs at ingress
 * of every leg, and keeps no state: an address is all that it looks at, and all that it
 * changes, besides sums and one hop.
 *
 * What is not a floating IP's, and whatever of it wants more than a new address, is left
 * to the stack: an expired TTL, a packet too long for the next link, IP options, a host
 * that must be looked for, a floating IP asked for from inside. The stack's own NAT
 * knows the same addresses, so its answers are the right ones.
 */
#pragma once

#include "fip_maps.h"
#include "stats.h"
#include "fip_parse.h"
#include "fip_icmp.h"

/* Which leg leads to an address, as far as that is by network; 0 = none is known. */
static __always_inline __u32 network_of(const struct addr *addr)
{
	struct network key = { .bits = 32, .addr = *addr };
	__u32 *device = bpf_map_lookup_elem(&networks, &key);

	return device ? *device : 0;
}

/* Has somebody outside an address that is the router's, or behind another leg? */
static __always_inline bool fip_spoofed(ctx_t *ctx, const struct leg *leg, const struct addr *saddr)
{
	__u32 behind = network_of(saddr);

	return (behind && behind != hook_ifindex(ctx)) || addr_equal(saddr, &leg->addr) ||
	       bpf_map_lookup_elem(&floating_ips, saddr);
}

/* From outside, to a floating IP. Its host must not be made to believe that a neighbour,
 * or the router, or itself has sent this. */
static __always_inline int fip_inward(ctx_t *ctx, const struct leg *leg, struct fip_pkt *pkt)
{
	struct floating *f = bpf_map_lookup_elem(&floating_ips, &pkt->daddr);

	if (!f)
		return STOP_PASS;
	if (fip_martian(&pkt->saddr))
		return -DROP_MARTIAN;
	if (fip_spoofed(ctx, leg, &pkt->saddr))
		return -DROP_SPOOF_SELF;
	pkt->inward = 1;
	pkt->floating = pkt->daddr;
	pkt->to_daddr = f->fixed;
	pkt->leg = f->leg;
	return 0;
}

/* From inside. Without a floating IP of its own the sender is the stack's, unless it
 * complains about a packet to somebody who has one. */
static __always_inline int fip_outward(ctx_t *ctx, const struct leg *leg, struct fip_pkt *pkt)
{
	struct fixed *f = bpf_map_lookup_elem(&fixed_ips, &pkt->saddr);

	if (!leg->external || bpf_map_lookup_elem(&floating_ips, &pkt->daddr))
		return STOP_PASS;
	if (!f && pkt->proto != IPPROTO_ICMP)
		return STOP_PASS;
	if (f && f->leg != hook_ifindex(ctx))
		return -DROP_SPOOF_SELF;
	pkt->leg = leg->external;
	if (f)
		pkt->floating = pkt->to_saddr = f->floating;
	return 0;
}

/* Turns the quote of an ICMP error. */
static __always_inline int fip_quoted(struct fip_pkt *pkt)
{
	struct fip_quote *q = &pkt->quote;
	struct fixed *f;

	if (pkt->inward) {
		q->to = pkt->to_daddr;
		return addr_equal(&q->from, &pkt->daddr) ? 0 : -DROP_ICMP_INNER;
	}
	f = bpf_map_lookup_elem(&fixed_ips, &q->from);
	if (!f)
		return STOP_PASS; /* about what the stack has translated, if anything */
	q->to = f->floating;
	if (!pkt->floating.word[0])
		pkt->floating = pkt->to_saddr = f->floating;
	return 0;
}

/* Where the packet goes with its new addresses: the router's routes and neighbours
 * decide, and if they do not lead through the other side, the stack. Nothing is changed
 * here.
 *
 * Fragments take one way all together: where the next link is narrower than the one that
 * they came by, that is the stack, which puts them together and cuts them anew. */
static __always_inline int fip_route(ctx_t *ctx, const struct leg *leg, struct fip_pkt *pkt)
{
	struct bpf_fib_lookup fib = {};
	long rc;

	fib.family = 2; /* AF_INET */
	fib.tos = pkt->tos;
	fib.ipv4_src = pkt->to_saddr.word[0];
	fib.ipv4_dst = pkt->to_daddr.word[0];
	fib.l4_protocol = pkt->proto;
	fib.tot_len = pkt->fragment ? leg->mtu : pkt->seg_len;
	fib.ifindex = hook_ifindex(ctx);
	rc = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (rc == BPF_FIB_LKUP_RET_NO_NEIGH && (pkt->fragment || pkt->quote.ip)) {
		/* The stack would not know what these belong to. */
		if (!HOOK_FINAL)
			return STOP_PUNT;
		pkt->resolve = 1;
	} else if (rc != BPF_FIB_LKUP_RET_SUCCESS) {
		return STOP_PASS;
	}
	if (fib.ifindex != pkt->leg)
		return pkt->inward ? -DROP_NO_ROUTE : STOP_PASS;
	__builtin_memcpy(pkt->dmac, fib.dmac, ETH_ALEN);
	__builtin_memcpy(pkt->smac, fib.smac, ETH_ALEN);
	pkt->out = fib.ifindex;
	return 0;
}

static __always_inline int fip_headers(ctx_t *ctx, struct fip_pkt *pkt, __u64 addr_diff)
{
	struct ethhdr *eth;
	struct iphdr *ip;
	__u64 sum;

	hook_pull(ctx, L3_OFF + IP_HLEN);
	eth = hook_data(ctx);
	ip = hook_data(ctx) + L3_OFF;
	if ((void *)(ip + 1) > hook_end(ctx))
		return -DROP_INTERNAL;
	sum = (__u64)(__u16)~ip->check + addr_diff + (__u16) ~(ip->ttl | ip->protocol << 8);
	ip->ttl--;
	sum += (__u16)(ip->ttl | ip->protocol << 8);
	ip->check = ~csum_fold(sum);
	ip->saddr = pkt->to_saddr.word[0];
	ip->daddr = pkt->to_daddr.word[0];
	if (pkt->resolve)
		return STOP_FORWARD; /* the kernel fills the MACs in */
	__builtin_memcpy(eth->h_dest, pkt->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, pkt->smac, ETH_ALEN);
	return STOP_FORWARD;
}

static __always_inline int fip_rewrite(ctx_t *ctx, struct fip_pkt *pkt)
{
	__u64 addr_diff =
		csum_addr(&pkt->saddr, &pkt->to_saddr) + csum_addr(&pkt->daddr, &pkt->to_daddr);

	if (pkt->quote.ip && fip_quote_rewrite(ctx, pkt))
		return -DROP_INTERNAL;
	if (pkt->sum_off &&
	    hook_csum(ctx, pkt->sum_off, csum_fold32(addr_diff), 0, pkt->proto == IPPROTO_UDP))
		return -DROP_INTERNAL;
	return fip_headers(ctx, pkt, addr_diff);
}

static __always_inline void fip_count(const struct fip_pkt *pkt)
{
	struct floating_counters *c = bpf_map_lookup_elem(&floating_counts, &pkt->floating);

	if (!c)
		return;
	if (pkt->inward) {
		c->packets_in += pkt->segs;
		c->bytes_in += pkt->bytes;
	} else {
		c->packets_out += pkt->segs;
		c->bytes_out += pkt->bytes;
	}
}

/* The only exit: what was decided is counted once and done. */
static __always_inline int fip_verdict(ctx_t *ctx, struct fip_pkt *pkt, int rc)
{
	if (!HOOK_FINAL && (rc == STOP_PASS || rc == STOP_PUNT))
		return hook_pass(); /* the tc program counts it */
	if (rc == STOP_FORWARD) {
		count_verdict(VERDICT_FORWARDED);
		fip_count(pkt);
#if HOOK_FINAL
		if (pkt->resolve)
			return hook_send_unresolved(pkt->out);
#endif
		return hook_send(ctx, pkt->out);
	}
	if (rc >= 0) {
		count_verdict(VERDICT_PASSED);
		return hook_pass();
	}
	count_drop(-rc);
	return hook_drop();
}

static __always_inline int fip_decide(ctx_t *ctx, struct fip_pkt *pkt)
{
	const struct leg *leg = leg_get(ctx);
	int rc;

	if (!leg)
		return STOP_PASS;
	rc = fip_parse(ctx, leg, pkt);
	if (!rc)
		rc = leg->role == LEG_EXTERNAL ? fip_inward(ctx, leg, pkt) :
						 fip_outward(ctx, leg, pkt);
	if (!rc && pkt->ttl <= 1)
		rc = STOP_PASS; /* the stack answers */
	if (!rc)
		rc = fip_transport(ctx, pkt);
	if (!rc)
		rc = fip_quote(ctx, pkt);
	if (!rc && pkt->quote.ip)
		rc = fip_quoted(pkt);
	if (!rc && !pkt->floating.word[0])
		rc = STOP_PASS; /* no error, and nobody's floating IP */
	if (!rc)
		rc = fip_route(ctx, leg, pkt);
	return rc ? rc : fip_rewrite(ctx, pkt);
}

static __always_inline int fip(ctx_t *ctx)
{
	struct fip_pkt pkt = {};

	return fip_verdict(ctx, &pkt, fip_decide(ctx, &pkt));
}
