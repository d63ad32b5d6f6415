/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Handshakes in flight, in a table and a ring of their own, so that a flood of
 * SYNs meets only other handshakes. All pools of the node share both; the ring is
 * in order of arrival, and a new handshake makes the oldest one of its own pool, or
 * of a pool that holds more than its own, give way.
 *
 * A pool's program cannot reach another pool's ports: the handshake that it evicts
 * leaves its port's bit behind, which the other pool's expiry finds and clears.
 */
#pragma once

static __always_inline struct half_open_use *use_of(__u32 pool)
{
	return bpf_map_lookup_elem(&half_open_use, &pool);
}

static __always_inline void use_add(__u32 pool, int n)
{
	struct half_open_use *use = use_of(pool);

	if (use)
		__sync_fetch_and_add(&use->handshakes, n);
}

static __always_inline bool half_open_condemn(struct half_open *client)
{
	return flow_condemn(&client->flow);
}

/* Deletes a handshake that the caller has condemned. keep_port: it became a flow.
 * Only who really deletes the client's half takes it off the levels. */
static __noinline int half_open_remove(const struct half_open_key *client, struct half_open *entry,
				       bool keep_port)
{
	struct half_open_key mate = { .pool = client->pool };
	__be16 port = entry->flow.sport;
	__u32 slot = entry->flow.slot, snat = entry->flow.snat;
	struct member_state *ms;

	mate_key(&mate.tuple, &entry->flow, client->tuple.proto);
	if (bpf_map_delete_elem(&half_open, client))
		return 0;
	bpf_map_delete_elem(&half_open, &mate);
	use_add(client->pool, -1);
	if (client->pool != pool_number || keep_port)
		return 0;
	ms = ports_get(slot, snat);
	if (ms && port_clear(ms, port_pos(port)))
		conns_add(slot, -1);
	return 0;
}

struct place_search {
	__u32 place;
	__u32 found;
	__u32 own; /* handshakes that our pool holds */
	__u32 now;
};

static long place_step(__u32 step __attribute__((unused)), struct place_search *search)
{
	struct half_open_key key;
	struct half_open_node *node;
	struct half_open_place *p;
	struct half_open_use *use;
	struct half_open *old;
	__u32 zero = 0, place;

	node = bpf_map_lookup_elem(&half_open_node, &zero);
	if (!node)
		return 1;
	place = __sync_fetch_and_add(&node->cursor, 1) & (HALF_OPEN_FLOWS - 1);
	p = bpf_map_lookup_elem(&half_open_ring, &place);
	if (!p)
		return 1;
	key = p->key;
	old = bpf_map_lookup_elem(&half_open, &key);
	if (old && old->ring == place) {
		if (key.pool != pool_number) {
			use = use_of(key.pool);
			if (use && use->handshakes < search->own)
				return 0;
		}
		if (half_open_condemn(old)) {
			half_open_remove(&key, old, false);
			__sync_fetch_and_add(&node->evicted, 1);
			node->lapped = search->now | 1;
		}
	}
	search->place = place;
	search->found = 1;
	return 1;
}

#define PLACE_TRIES 64

/* A place in the ring for a new handshake; -DROP_HALF_OPEN_FULL when pools that
 * hold less than ours fill what is next. */
static __always_inline int place_claim(__u32 *place, __u32 now)
{
	struct half_open_use *use = use_of(pool_number);
	struct place_search search = { .now = now };

	if (!use)
		return -DROP_INTERNAL;
	search.own = use->handshakes;
	bpf_loop(PLACE_TRIES, place_step, &search, 0);
	if (!search.found)
		return -DROP_HALF_OPEN_FULL;
	*place = search.place;
	return 0;
}

static __always_inline void place_take(__u32 place, const struct half_open_key *key)
{
	struct half_open_place *p = bpf_map_lookup_elem(&half_open_ring, &place);

	if (p)
		p->key = *key;
}

/*
 * The handshake is complete: both entries move to the flows, member side first, and
 * the packet is to be looked up again.
 * Only the ACK of the member's own sequence number does that, so that nobody who
 * cannot see the member's answer ever holds a flow.
 */
static __noinline int half_open_promote(const struct half_open_key *key, struct half_open *client,
					struct pkt *pkt, __u32 next, __u32 ack)
{
	struct half_open_key mate = { .pool = key->pool };
	struct pool_state *ps = pool_state_get();
	struct vip *vip = vip_get();
	struct half_open *member;
	__u32 slot = client->flow.slot;
	int rc;

	if (!ps || !vip)
		return -DROP_INTERNAL;
	mate_key(&mate.tuple, &client->flow, key->tuple.proto);
	member = bpf_map_lookup_elem(&half_open, &mate);
	if (!member)
		return STOP_AGAIN;	/* another CPU is done with it */
	if (!half_open_condemn(client)) /* another CPU is at it: only a FIN cannot overtake */
		return pkt->tcp_flags & TCP_FIN ? STOP_AGAIN : 0;
	rc = -DROP_CONN_LIMIT;
	if (__sync_fetch_and_add(&ps->active, 1) >= vip->connection_limit &&
	    vip->connection_limit != NO_LIMIT)
		goto undo;

	rc = flow_insert(&mate.tuple, &member->flow, pkt->now);
	if (rc)
		goto undo;
	client->flow.next = next; /* of the SYN that the member has taken */
	client->flow.ack = ack;
	rc = flow_insert(&key->tuple, &client->flow, pkt->now);
	if (rc) {
		bpf_map_delete_elem(&flows, &mate.tuple);
		goto undo;
	}
	half_open_remove(key, client, true);
	flow_established(ps, slot);
	return STOP_AGAIN;
undo:
	__sync_fetch_and_add(&ps->active, -1);
	__sync_fetch_and_and(&client->flow.state, ~FLOW_DEAD);
	return rc;
}
