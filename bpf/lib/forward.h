/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet of a flow leaves: its route, its new headers, and the member's counters. */
#pragma once

#include "route.h"
#include "nat.h"

/* Turns the packet into what the other side shall see; its route is known. */
static __always_inline int leave(ctx_t *ctx, struct pkt *pkt, const struct flow *flow)
{
	int rc = nat_apply(ctx, pkt, flow);

	if (rc)
		return rc;
	member_count(pkt, flow);
	return STOP_FORWARD;
}

/* A packet of a flow in the table. Only where more packets follow at once is the other
 * direction's route worth asking for. */
static __always_inline int forward(ctx_t *ctx, struct pkt *pkt, struct flow_entry *entry, bool busy)
{
	int rc = 0;

	if (route_known(pkt, entry, ROUTE_TICKS)) {
		route_back(ctx, pkt, entry);
	} else {
		rc = route(ctx, pkt, &entry->flow);
		if (!rc && !pkt->resolve && pkt->out == hook_ifindex(ctx)) {
			route_keep(entry, pkt->dmac, pkt->mtu, pkt->now);
			if (busy)
				route_mate(ctx, pkt, &entry->flow);
		}
	}
	return rc ? rc : leave(ctx, pkt, &entry->flow);
}

/* A packet of a handshake, of which the caller has a copy: it may be somebody else's soon. */
__noinline int forward_handshake(ctx_t *ctx, struct pkt *pkt, const struct flow *flow)
{
	int rc;

	if (!pkt || !flow)
		return -DROP_INTERNAL;
	rc = route(ctx, pkt, flow);
	return rc ? rc : leave(ctx, pkt, flow);
}
