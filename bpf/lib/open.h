/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A new connection toward a member that has been chosen: a port, and both entries.
 */
#pragma once

#define CLAIM_TRIES 4

/* What a handshake is made of while it is put together. A datagram's becomes a flow at
 * once: what a handshake has besides is zero then, and as a flow's entry it has no route. */
struct opening {
	struct half_open_key key; /* of entry's half */
	struct half_open entry;	  /* the member's half, then the client's */
	__u32 slot;
	__u32 snat;
	__u32 pos;
};

/* The port is the connection's. */
static __always_inline int port_opened(struct opening *o, const struct member_state *ms, __u32 pos)
{
	o->pos = pos;
	if (ms->ports_used > NAT_PORTS / 2)
		count_event(EVENT_NAT_PRESSURE);
	return 0;
}

/* Takes a port toward the member by inserting the member's half: the insertion is
 * the claim. Then the flows are asked, in this order: the other side of the move
 * from handshake to flow inserts there before it deletes here.
 *
 * A port that turns out to be somebody's had lost its bit to the expiry, and a
 * connection with it: our claim gives it both back. */
__noinline int port_open(struct opening *o, struct vip *vip, bool udp)
{
	struct member_state *ms;
	__u32 pos;
	int i, rc;

	if (!o || !vip)
		return -DROP_INTERNAL;
	ms = ports_get(o->slot, o->snat);
	if (!ms)
		return -DROP_INTERNAL;
	for (i = 0; i < CLAIM_TRIES; i++) {
		pos = port_claim(ms);
		if (pos >= NAT_PORTS)
			return -DROP_NAT_FULL;
		o->key.tuple.dport = port_at(pos);
		if (o->key.tuple.dport == vip->port) {
			if (!port_clear(ms, pos))
				conns_add(o->slot, 1);
			continue; /* the listener's */
		}
		rc = udp ? bpf_map_update_elem(&flows, &o->key.tuple, &o->entry, BPF_NOEXIST) :
			   bpf_map_update_elem(&half_open, &o->key, &o->entry, BPF_NOEXIST);
		if (rc && rc != -EEXIST) { /* no room, or no memory */
			if (!port_clear(ms, pos))
				conns_add(o->slot, 1);
			return udp ? -DROP_FLOWS_FULL : -DROP_HALF_OPEN_FULL;
		}
		if (!rc) {
			if (udp || !bpf_map_lookup_elem(&flows, &o->key.tuple))
				return port_opened(o, ms, pos);
			bpf_map_delete_elem(&half_open, &o->key);
		}
		conns_add(o->slot, 1);
	}
	return -DROP_NAT_FULL;
}

/* Whose turn it is among the places that are open: closed ones have none, or the next one
 * had theirs too. */
__noinline __u32 place_of_turn(__u32 open, __u32 turn)
{
	__u32 i, places = 0;

	for (i = 0; i < SNAT_ADDRESSES; i++)
		places += open >> i & 1;
	if (!places)
		return 0;
	turn %= places;
	for (i = 0; i < SNAT_ADDRESSES; i++)
		if ((open >> i & 1) && !turn--)
			return i;
	return 0;
}

/* The VIP's source addresses take turns; one that has no free port toward the member
 * is passed over. */
static INLINE_IF_SMALL int address_open(struct opening *o, struct vip *vip, bool udp)
{
	struct member_state *ms = member_state_get(o->slot);
	__u32 snats = vip->snats, turn = 0, i;
	int rc = -DROP_NAT_FULL;

	if (!ms)
		return -DROP_INTERNAL;
	if (snats > 1)
		turn = place_of_turn(vip->snat_open, __sync_fetch_and_add(&ms->turn, 1));
	for (i = 0; i < SNAT_ADDRESSES && rc == -DROP_NAT_FULL && i < snats; i++) {
		o->snat = (turn + i) % snats;
		barrier_var(o->snat);
		if (o->snat >= SNAT_ADDRESSES || !(vip->snat_open >> o->snat & 1))
			continue;
		o->key.tuple.daddr = vip->snat[o->snat];
		o->entry.flow.snat = o->snat;
		rc = port_open(o, vip, udp);
	}
	return rc;
}

/* Gives back port and connection of a handshake that will not be, and whose entry is the
 * client's half by now. */
static __always_inline int opening_undo(struct opening *o)
{
	struct member_state *ms = ports_get(o->slot, o->snat);

	mate_key(&o->key.tuple, &o->entry.flow, IPPROTO_TCP);
	bpf_map_delete_elem(&half_open, &o->key);
	if (ms && port_clear(ms, o->pos))
		conns_add(o->slot, -1);
	return 0;
}

/* Fills in both halves but for the port. */
static __always_inline int opening_fill(ctx_t *ctx, struct pkt *pkt, struct vip *vip,
					struct opening *o)
{
	struct member *m = member_get(vip, o->slot);
	__u32 off = 0;
	__be32 tsval;

	if (!m)
		return -DROP_INTERNAL;
	o->key.pool = pool_number;
	o->key.tuple.saddr = m->addr;
	o->key.tuple.sport = m->port;
	o->key.tuple.proto = pkt->key.proto;
	o->entry.flow.saddr = pkt->key.daddr;
	o->entry.flow.daddr = pkt->key.saddr;
	o->entry.flow.sport = pkt->key.dport;
	o->entry.flow.dport = pkt->key.sport;
	o->entry.flow.slot = o->slot;
	o->entry.flow.serial = m->serial;
	o->entry.flow.seen = pkt->now;
	o->entry.flow.started = pkt->now;
	o->entry.flow.state = FLOW_MEMBER_SIDE;
	if (pkt->cookie) {
		o->entry.flow.state |= FLOW_COOKIE;
		o->entry.window = pkt->window;
		o->entry.segment = cookie_segment(pkt->cookie - 1);
		return 0;
	}
	if (pkt->key.proto == IPPROTO_TCP)
		off = timestamp_find(ctx, pkt);
	if (off && !hook_load(ctx, off, &tsval, sizeof(tsval))) {
		o->entry.flow.state |= FLOW_TIMESTAMPS;
		o->entry.flow.shift = bpf_ktime_get_ns() / 1000000 - bpf_ntohl(tsval);
	}
	return 0;
}

/* Turns the member's half into the client's. */
static __always_inline void opening_turn(struct opening *o, const struct pkt *pkt)
{
	o->entry.flow.saddr = o->key.tuple.daddr;
	o->entry.flow.daddr = o->key.tuple.saddr;
	o->entry.flow.sport = o->key.tuple.dport;
	o->entry.flow.dport = o->key.tuple.sport;
	o->entry.flow.state &= ~FLOW_MEMBER_SIDE;
	o->entry.flow.next = pkt->cookie ? pkt->seq : pkt->end;
	o->entry.flow.ack = pkt->cookie ? pkt->ack : 0;
}

/* Did another CPU complete the client's handshake since the flows were asked? */
static __always_inline bool opened_meanwhile(const struct pkt *pkt)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &pkt->key);

	return flow && !(flow->state & FLOW_DEAD);
}

/* Both halves in the table: STOP_AGAIN, or why not. Another CPU may have opened the
 * same connection; then ours is undone and the caller finds that one. */
__noinline int handshake_open(ctx_t *ctx, struct pkt *pkt, struct vip *vip, __u32 slot, __u32 place)
{
	struct opening o = { .slot = slot, .entry.ring = place };
	struct member_state *ms;
	int rc;

	if (!pkt || !vip)
		return -DROP_INTERNAL;
	rc = opening_fill(ctx, pkt, vip, &o);
	if (!rc)
		rc = address_open(&o, vip, false);
	if (rc) {
		conns_add(slot, -1);
		return rc;
	}
	opening_turn(&o, pkt);
	if (socket_of(ctx, vip, &o.key.tuple)) {
		opening_undo(&o);
		return -DROP_PORT_TAKEN;
	}
	o.key.tuple = pkt->key; /* the client's from here on */
	if (bpf_map_update_elem(&half_open, &o.key, &o.entry, BPF_NOEXIST)) {
		opening_undo(&o);
		return STOP_AGAIN;
	}
	if (opened_meanwhile(pkt)) {
		bpf_map_delete_elem(&half_open, &o.key);
		opening_undo(&o);
		return STOP_AGAIN;
	}
	place_take(o.entry.ring, &o.key);
	use_add(pool_number, 1);
	/* The expiry may have taken the bit for an orphan's before the entry was in. */
	ms = ports_get(slot, o.snat);
	if (ms && port_set(ms, o.pos))
		conns_add(slot, 1);
	return STOP_AGAIN;
}

/* Nobody's, unless its handshake moved to the flows between our two look-ups. */
static __always_inline int nobodys(const struct pkt *pkt, int reason)
{
	return bpf_map_lookup_elem(&flows, &pkt->key) ? STOP_AGAIN : -reason;
}

/* A datagram's flow needs no handshake: both entries stand at once, member side
 * first. STOP_AGAIN, or why not. */
__noinline int datagram_open(ctx_t *ctx, struct pkt *pkt, struct vip *vip, __u32 slot)
{
	struct pool_state *ps = pool_state_get();
	struct opening o = { .slot = slot };
	struct member_state *ms;
	int rc = -DROP_INTERNAL;

	if (!pkt || !vip)
		return rc;
	if (ps)
		rc = opening_fill(ctx, pkt, vip, &o);
	if (!rc)
		rc = address_open(&o, vip, true);
	if (rc) {
		conns_add(slot, -1);
		return rc;
	}
	opening_turn(&o, pkt);
	if (bpf_map_update_elem(&flows, &pkt->key, &o.entry, BPF_NOEXIST)) {
		/* Another CPU was faster, or the table is full. */
		bpf_map_delete_elem(&flows, &o.key.tuple);
		ms = ports_get(slot, o.snat);
		if (ms && port_clear(ms, o.pos))
			conns_add(slot, -1);
		return nobodys(pkt, DROP_FLOWS_FULL);
	}
	__sync_fetch_and_add(&ps->active, 1);
	flow_established(ps, slot);
	ms = ports_get(slot, o.snat);
	if (ms && port_set(ms, o.pos))
		conns_add(slot, 1);
	return STOP_AGAIN;
}
