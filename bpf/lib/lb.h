/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet's life, top to bottom. Included by an object that has defined its
 * family (ADDR_WORDS) and its hook (hook_tc.h or hook_xdp.h).
 */
#pragma once

#include "parse.h"
#include "tcpopt.h"
#include "ports.h"
#include "flow.h"
#include "closing.h"
#include "conntrack.h"
#include "halfopen.h"
#include "select.h"
#include "forward.h"
#include "socket.h"
#include "icmp.h"
#include "cookie.h"
#if HOOK_FINAL
#include "answer_tcp.h"
#include "cookie_send.h"
#endif
#include "handshake.h"
#include "sweep.h"
#include "pressure.h"
#include "open.h"
#include "stranger.h"
#if HOOK_FINAL
#include "answer.h"
#endif

/* The member's answer to a SYN of ours, when its connection stands already. */
static __always_inline int cookie_answered(ctx_t *ctx, struct pkt *pkt, struct flow *flow)
{
#if HOOK_FINAL
	return cookie_complete(ctx, pkt, flow);
#else
	(void)ctx, (void)pkt, (void)flow;
	return STOP_PUNT;
#endif
}

/* A packet of a connection that is established or closing. */
static __always_inline int flow_packet(ctx_t *ctx, struct pkt *pkt, struct flow_entry *entry)
{
	struct flow *flow = &entry->flow;
	bool busy = pkt->now - flow->seen < BUSY_TICKS;
	__u32 state = flow->state;
	int rc;

	if (state & FLOW_DEAD)
		return STOP_RENEW;
	if (ttl_spent(pkt))
		return -DROP_TTL;
	if ((state & (FLOW_COOKIE | FLOW_MEMBER_SIDE)) == (FLOW_COOKIE | FLOW_MEMBER_SIDE) &&
	    (pkt->tcp_flags & TCP_SYN))
		return cookie_answered(ctx, pkt, flow);
	rc = state & FLOW_RESET ? flow_reset(pkt, flow) : 0;
	if (!rc)
		rc = pkt->key.proto == IPPROTO_UDP ? flow_track_udp(pkt, flow) :
						     flow_track(pkt, flow);
	return rc ? rc : forward(ctx, pkt, entry, busy);
}

/* The only exit: what was decided is counted once and done. */
static __always_inline int verdict(ctx_t *ctx, struct pkt *pkt, int rc)
{
	if (!HOOK_FINAL && (rc == STOP_PASS || rc == STOP_PUNT || pkt->answer))
		return hook_pass(); /* the tc program counts it */
	if (rc == STOP_FORWARD) {
		count_verdict(VERDICT_FORWARDED);
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
#if HOOK_FINAL
	if (pkt->answer)
		return answer(ctx, pkt);
#endif
	return hook_drop();
}

/* Is the packet for an address of ours? Nothing else is in the tables, and for a bridge's
 * other traffic this is all that it costs. */
static __always_inline bool to_us(const struct pkt *pkt)
{
	const struct vip *vip = vip_get();

	return !vip || addr_equal(&pkt->key.daddr, &vip->addr) ||
	       (vip->snats > 1 && addr_ours(&pkt->key.daddr));
}

/* A packet of a connection; STOP_RENEW if there is none. */
__noinline int established(ctx_t *ctx, struct pkt *pkt)
{
	struct flow_entry *entry;

	if (!pkt)
		return -DROP_INTERNAL;
	entry = bpf_map_lookup_elem(&flows, &pkt->key);
	return entry ? flow_packet(ctx, pkt, entry) : STOP_RENEW;
}

/* A packet of what is in the tables; 0 = of nothing there. */
static __always_inline int known(ctx_t *ctx, struct pkt *pkt)
{
	int rc = established(ctx, pkt);

	return rc == STOP_RENEW ? handshake_packet(ctx, pkt) : rc;
}

#define LOOKS 2 /* a stranger may have made its entries, and is looked up once more */

static __always_inline int lb(ctx_t *ctx)
{
	struct pkt pkt = {};
	int i, rc;

	rc = parse(ctx, &pkt);
	if (rc == STOP_ICMP)
		return verdict(ctx, &pkt, icmp_packet(ctx, &pkt));
	if (!rc && !to_us(&pkt))
		rc = STOP_PASS;
	if (rc)
		return verdict(ctx, &pkt, rc);
	pkt.now = ticks_now();

#pragma clang loop unroll(disable)
	for (i = 0; i < LOOKS; i++) {
		rc = known(ctx, &pkt);
		if (!rc && !i)
			rc = stranger(ctx, &pkt);
		if (rc != STOP_AGAIN)
			break;
	}
#if HOOK_FINAL
	if (rc == STOP_ASK)
		rc = cookie_ask(ctx, &pkt);
#endif
	if (!rc || rc == STOP_AGAIN)
		rc = -DROP_NO_ENTRY; /* made, and gone again */
	return verdict(ctx, &pkt, rc);
}
