/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The balancer's short cut at the outside device: packets that change nothing about their
 * connection, and go where its last one went. tc_lb, inside, sees all the others.
 */
#include "base.h"
#include "hook_tap.h"
#include "pkt.h"
#include "stats.h"
#include "events.h"
#include "quote.h"
#if ADDR_WORDS == 1
#include "ip4.h"
#else
#include "ip6.h"
#endif
#include "parse.h"
#include "tcpopt.h"
#include "ports.h"
#include "flow.h"
#include "closing.h"
#include "nat.h"

/* How old a route may be. What asks for it again goes through the namespace, and is overtaken
 * by what comes after it: that shall be an acknowledgment, not data. */
static __always_inline __u32 route_age(const struct pkt *pkt)
{
	return pkt->end == pkt->seq ? ROUTE_TICKS : 2 * ROUTE_TICKS;
}

/* Is there nothing to think about? Only flows that are not being removed, segments that open
 * and refuse nothing, and datagrams whose member is up. */
static __always_inline bool plain(const struct pkt *pkt, const struct flow_entry *entry)
{
	const struct flow *flow = &entry->flow;

	if (flow->state & (FLOW_DEAD | FLOW_RESET | FLOW_COOKIE))
		return false;
	if (pkt->ttl <= 1 || !route_known(pkt, entry, route_age(pkt)))
		return false;
	if (pkt->key.proto == IPPROTO_UDP)
		return (flow->state & FLOW_MEMBER_SIDE) || slot_up(flow->slot);
	return !(pkt->tcp_flags & (TCP_SYN | TCP_RST));
}

/* The flow has shown what the packet shows; flow_track is the same for all packets. */
static __always_inline void note(const struct pkt *pkt, struct flow *flow)
{
	bool near = pkt->key.proto == IPPROTO_TCP && flow_near(pkt, flow);
	struct flow *client = near && (pkt->tcp_flags & TCP_FIN) ? flow_client(pkt, flow) : NULL;

	if (client)
		flow_finish(flow, client);
	flow_note(pkt, flow, near);
}

SEC("tc")
int tap_lb(struct __sk_buff *ctx)
{
	struct pkt pkt = {};
	struct flow_entry *entry;

	if (parse(ctx, &pkt))
		return hook_pass();
	pkt.now = ticks_now();
	entry = bpf_map_lookup_elem(&flows, &pkt.key);
	if (!entry || !plain(&pkt, entry))
		return hook_pass();
	note(&pkt, &entry->flow);
	route_back(ctx, &pkt, entry);
	if (nat_apply(ctx, &pkt, &entry->flow)) {
		count_drop(DROP_INTERNAL);
		return hook_drop();
	}
	member_count(&pkt, &entry->flow);
	count_verdict(VERDICT_FORWARDED);
	count_event(EVENT_OUTSIDE);
	return hook_send(ctx, pkt.out);
}
