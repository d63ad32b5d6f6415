/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet that belongs to nothing we know: whose it is, whether it may open a
 * connection, and toward which member.
 */
#pragma once

/* Tells the client at once that there is nothing to wait for. */
static __always_inline void refuse(struct pkt *pkt)
{
	if (pkt->key.proto == IPPROTO_UDP)
		answer_wanted(pkt, ANSWER_UNREACHABLE);
	else
		pkt->answer = ANSWER_RST;
}

/* May the pool take one more connection? */
static __always_inline int limits_allow(struct vip *vip, struct pkt *pkt)
{
	struct pool_state *ps = pool_state_get();

	if (!ps)
		return -DROP_INTERNAL;
	if ((vip->flags & VIP_REFUSE) || !vip->schedule_len) {
		/* Persistent clients may still reach a member whose weight is 0. */
		if ((vip->flags & VIP_REFUSE) || !(vip->flags & VIP_AFFINITY)) {
			refuse(pkt);
			return -DROP_NO_MEMBER;
		}
	}
	if (ps->active >= vip->connection_limit)
		return -DROP_CONN_LIMIT;
	return 0;
}

/* Nearly full: old flows are looked after. Full of live ones: nothing more. */
static __always_inline int table_allows(struct vip *vip, struct pkt *pkt)
{
	struct pool_state *ps = pool_state_get();

	if (!ps)
		return -DROP_INTERNAL;
	if (ps->flows < vip->flow_limit - vip->flow_limit / 4)
		return 0;
	sweep_for_room(vip, ps, pkt->now);
	if (ps->flows < vip->flow_limit)
		return 0;
	refuse(pkt);
	return -DROP_FLOWS_FULL;
}

/* Too many handshakes in flight: this one must wait until its client is known to exist. */
static __always_inline int handshakes_allow(struct pkt *pkt)
{
	struct pool_state *ps = pool_state_get();

	return ps && cookie_wanted(pkt) ? cookie_demand(ps, pkt) : 0;
}

/* A packet to the VIP that neither is a SYN nor brings a cookie back, or 0. */
static __always_inline int unopened(ctx_t *ctx, struct pkt *pkt)
{
	int rc;

	if (pkt->key.proto != IPPROTO_TCP || (pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return 0;
	rc = nobodys(pkt, DROP_NO_ENTRY);
	if (rc > 0 || (pkt->tcp_flags & (TCP_SYN | TCP_RST)))
		return rc;
	switch (cookie_returned(ctx, pkt)) {
	case 0:
		/* Better a fast RST than a client that waits for a flow that is gone. */
		answer_wanted(pkt, ANSWER_RST);
		return rc;
	case STOP_PUNT:
		return STOP_PUNT;
	default:
		return 0;
	}
}

#define MEMBER_TRIES 3 /* members that are asked for a free port */

/* Both entries toward one member; STOP_AGAIN, or why not. */
static __always_inline int open_toward(ctx_t *ctx, struct pkt *pkt, struct vip *vip, __u32 slot)
{
	__u32 place;
	int rc;

	if (pkt->key.proto == IPPROTO_UDP)
		return datagram_open(ctx, pkt, vip, slot);
	rc = place_claim(&place, pkt->now);
	if (rc) {
		conns_add(slot, -1);
		return rc;
	}
	return handshake_open(ctx, pkt, vip, slot, place);
}

/* Member and port. A member without a free port is passed over for the next choice. */
static __always_inline int connection_open(ctx_t *ctx, struct pkt *pkt, struct vip *vip)
{
	int i, rc = -DROP_NO_MEMBER;
	__u32 slot;

	for (i = 0; i < MEMBER_TRIES; i++) {
		slot = member_choose(vip, pkt);
		if (slot >= MAX_SLOTS)
			break;
		rc = open_toward(ctx, pkt, vip, slot);
		if (rc != -DROP_NAT_FULL)
			return rc;
		pkt->avoid = slot + 1;
	}
	refuse(pkt);
	return rc;
}

static __always_inline bool to_listener(const struct vip *vip, const struct pkt *pkt)
{
	return pkt->key.dport == vip->port && pkt->key.proto == vip->proto &&
	       addr_equal(&pkt->key.daddr, &vip->addr);
}

/* A packet that belongs to nothing we know. */
__noinline int stranger(ctx_t *ctx, struct pkt *pkt)
{
	struct vip *vip = vip_get();
	int rc;

	if (!pkt)
		return -DROP_INTERNAL;
	if (!vip || !addr_ours(&pkt->key.daddr))
		return STOP_PASS;
	if (addr_ours(&pkt->key.saddr))
		return -DROP_SPOOF_SELF;
	if (ip_martian(&pkt->key.saddr) || addr_equal(&pkt->key.saddr, &vip->broadcast))
		return -DROP_MARTIAN;
	if (!HOOK_FINAL && (vip->flags & VIP_SOCKETS))
		return STOP_PUNT;
	if (((vip->flags & VIP_LISTENS) && to_listener(vip, pkt)) || socket_owns(ctx, vip, pkt))
		return STOP_PASS;
	if (!to_listener(vip, pkt)) {
		__u32 pos = port_pos(pkt->key.dport);

		if (pos >= NAT_PORTS || pkt->key.dport == vip->port)
			return STOP_PASS;
		return nobodys(pkt, DROP_NAT_NOMAP);
	}
	rc = unopened(ctx, pkt);
	if (rc)
		return rc;
	if (ttl_spent(pkt))
		return -DROP_TTL;
	rc = limits_allow(vip, pkt);
	if (!rc)
		rc = table_allows(vip, pkt);
	if (!rc)
		rc = handshakes_allow(pkt);
	return rc ? rc : connection_open(ctx, pkt, vip);
}
