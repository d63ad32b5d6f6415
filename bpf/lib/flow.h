/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One entry of the flow table: the other direction's key, what its packets have shown, and
 * the route that they take. A flow remembers its route for half a second: asking
 * again for every packet would cost as much as all the rest.
 */
#pragma once

/* The key under which the other direction is found. */
static __always_inline void mate_key(struct flow_key *key, const struct flow *flow, __u32 proto)
{
	key->saddr = flow->daddr;
	key->daddr = flow->saddr;
	key->sport = flow->dport;
	key->dport = flow->sport;
	key->proto = proto;
}

/* As far as a segment may be off what its direction has shown so far, both ways: the
 * largest window that a Linux host offers by itself. */
#define REACH (1U << 25)

static __always_inline bool in_reach(__u32 number, __u32 shown)
{
	return number - shown + REACH < 2 * REACH;
}

/* Is the segment near to what its direction, and the other one, have shown? */
static __always_inline bool flow_near(const struct pkt *pkt, const struct flow *flow)
{
	return in_reach(pkt->end, flow->next) && in_reach(pkt->ack, flow->ack);
}

/* The flow has shown what the segment shows. Only what changes is written, for the other
 * CPUs' sake. */
static __always_inline void flow_note(const struct pkt *pkt, struct flow *flow, bool near)
{
	if (flow->seen != pkt->now)
		flow->seen = pkt->now;
	if (!near)
		return;
	if (flow->ack != pkt->ack)
		flow->ack = pkt->ack;
	if ((__s32)(pkt->end - flow->next) > 0)
		flow->next = pkt->end;
}

/* May the packet go where the flow's last one went, not longer than so many ticks ago? */
static __always_inline bool route_known(const struct pkt *pkt, const struct flow_entry *entry,
					__u32 ticks)
{
	return pkt->seg_len <= entry->mtu && pkt->now - entry->routed < ticks;
}

/* Back out by the device that it came in by, whose address it was sent to. */
static __always_inline void route_back(ctx_t *ctx, struct pkt *pkt, const struct flow_entry *entry)
{
	struct ethhdr *eth = hook_data(ctx);

	if ((void *)(eth + 1) <= hook_end(ctx))
		__builtin_memcpy(pkt->smac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(pkt->dmac, entry->dmac, ETH_ALEN);
	pkt->out = hook_ifindex(ctx);
}

/* Remembers a route. While the address changes there is none, so that no packet is
 * sent to half of one. */
static __always_inline void route_keep(struct flow_entry *entry, const __u8 *dmac, __u16 mtu,
				       __u32 now)
{
	if (__builtin_memcmp(entry->dmac, dmac, ETH_ALEN) || entry->mtu != mtu) {
		entry->mtu = 0;
		barrier();
		__builtin_memcpy(entry->dmac, dmac, ETH_ALEN);
		barrier();
		entry->mtu = mtu;
	}
	entry->routed = now;
}
