/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets of our own, in answer to one that ends here. tc only: XDP passes such
 * packets on. Answers that anybody could ask for by sending rubbish are limited to
 * ANSWERS_PER_SEC for the whole pool.
 */
#pragma once

#include "answer_tcp.h"
#include "answer_icmp.h"

#define ANSWERS_PER_SEC 100

/* One more answer in this second? CPUs that ask at the same time may both be the
 * last one, or the first of a new second: a few more or less. */
static __always_inline bool answer_allowed(const struct pkt *pkt)
{
	struct pool_state *ps = pool_state_get();
	__u32 second = pkt->now / TICKS_PER_SEC;

	if (!ps)
		return false;
	if (ps->answer_second != second) {
		ps->answer_second = second;
		ps->answers = 0;
	}
	return __sync_fetch_and_add(&ps->answers, 1) < ANSWERS_PER_SEC;
}

/* Answers a packet that ends here. One with IP options or extension headers gets no
 * answer, nor does ICMP: an error about an error could go on for ever (RFC 1122, 3.2.2). */
__noinline int answer(ctx_t *ctx, struct pkt *pkt)
{
	__u8 macs[2 * ETH_ALEN];
	int rc;

	if (!pkt || pkt->l4 != L3_OFF + IP_HLEN || pkt->key.proto == PROTO_ICMP)
		return hook_drop();
	if (pkt->answer_limited && !answer_allowed(pkt))
		return hook_drop();
	if (bpf_skb_load_bytes(ctx, ETH_ALEN, macs, ETH_ALEN) ||
	    bpf_skb_load_bytes(ctx, 0, macs + ETH_ALEN, ETH_ALEN))
		return hook_drop();
	if (pkt->answer == ANSWER_COOKIE)
		rc = answer_cookie(ctx, pkt, macs);
	else if (pkt->answer >= ANSWER_TIME_EXCEEDED)
		rc = answer_icmp(ctx, pkt, macs);
	else
		rc = answer_rst(ctx, pkt, macs);
	if (rc)
		return hook_drop();
	count_verdict(VERDICT_ANSWERED);
	return bpf_redirect(ctx->ifindex, 0);
}
