/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections: two entries each, one per direction, and what they count as.
 *
 * The client side's entry speaks for the connection. FLOW_DEAD in its state is
 * the right to delete the pair: it is set by an atomic, and whoever finds it set
 * keeps off. The pair goes client side first, then member side, then the port's
 * bit, so that nobody gets the port while an entry still uses it.
 *
 * The worst that a race costs: an entry's memory may be used again between a
 * look-up and an atomic on another CPU. The atomic then marks a stranger, which is
 * as young as the race; the expiry clears that up once the mark cannot be anybody's.
 */
#pragma once

/* What the receiver of this entry's packets knows their numbers to be more by. */
static __always_inline __u32 seq_shift(const struct flow *flow)
{
	__u32 both = FLOW_COOKIE | FLOW_MEMBER_SIDE;

	return (flow->state & both) == both ? flow->shift : 0;
}

static __always_inline bool flow_condemn(struct flow *flow)
{
	return !(__sync_fetch_and_or(&flow->state, FLOW_DEAD) & FLOW_DEAD);
}

/* One direction's entry, from what was known of it so far. */
static INLINE_IF_SMALL int flow_insert(const struct flow_key *key, const struct flow *from,
				       __u32 now)
{
	struct flow_entry entry = { .flow = *from };

	entry.flow.state &= ~(FLOW_DEAD | FLOW_SYN_ACK);
	entry.flow.seen = now;
	return bpf_map_update_elem(&flows, key, &entry, BPF_NOEXIST) ? -DROP_FLOWS_FULL : 0;
}

/* A connection that is established from now on. */
static __always_inline void flow_established(struct pool_state *ps, __u32 slot)
{
	struct member_state *ms = member_state_get(slot);
	struct member_counters *counters = counters_get(slot);

	__sync_fetch_and_add(&ps->flows, 1);
	if (ms)
		__sync_fetch_and_add(&ms->active, 1);
	if (counters)
		counters->connections++;
}

/* Deletes a pair that the caller has condemned. Only who really deletes the client's
 * entry takes it off the levels. */
static __noinline int flow_remove(const struct flow_key *key, struct flow *client)
{
	struct pool_state *ps = pool_state_get();
	struct member_state *ms;
	__u32 slot = client->slot;
	__u32 snat = client->snat;
	__be16 port = client->sport;
	struct flow_key mate = {};

	flow_close(client);
	mate_key(&mate, client, key->proto);
	if (bpf_map_delete_elem(&flows, key))
		return 0;
	bpf_map_delete_elem(&flows, &mate);
	if (ps)
		__sync_fetch_and_add(&ps->flows, -1);
	ms = ports_get(slot, snat);
	/* The expiry may have taken our bit for an orphan's, and a connection with it. */
	if (ms && !port_clear(ms, port_pos(port)))
		conns_add(slot, 1);
	return 0;
}

static __always_inline struct flow *flow_mate(const struct pkt *pkt, struct flow *flow)
{
	struct flow_key key = {};

	mate_key(&key, flow, pkt->key.proto);
	return bpf_map_lookup_elem(&flows, &key);
}

/*
 * Is this RST the sender's own? Its sequence number must be the next one that the
 * sender would use, or the one that the other end asks for. Anything else may be
 * forged: it is passed on (the endpoint judges it by RFC 5961, and a sender that
 * means it answers the challenge with an exact one), but the flow stays.
 */
static __always_inline bool rst_true(const struct pkt *pkt, struct flow *flow)
{
	struct flow *mate;

	if (pkt->seq == flow->next)
		return true;
	mate = flow_mate(pkt, flow);
	return mate && pkt->seq + seq_shift(flow) == mate->ack;
}

/* SYN, FIN and RST on a flow. */
static INLINE_IF_SMALL int flow_signal(struct pkt *pkt, struct flow *flow)
{
	struct flow *client = flow_client(pkt, flow);
	bool from_member = flow->state & FLOW_MEMBER_SIDE;

	if (!client)
		return 0;
	if (pkt->tcp_flags & TCP_SYN) {
		if (from_member || (pkt->tcp_flags & TCP_ACK) || !(client->state & FLOW_CLOSED))
			return 0;
		/* The client uses its port again: a new connection, with a new choice. */
		if (flow_condemn(client))
			flow_remove(&pkt->key, client);
		return STOP_RENEW;
	}
	if (pkt->tcp_flags & TCP_RST) {
		if (rst_true(pkt, flow))
			flow_close(client);
		return 0;
	}
	flow_finish(flow, client);
	return 0;
}

/* The member's drain has ended: the packet's sender and its peer get a RST, and
 * this was the flow's last packet, but for a SYN that opens another one, a RST of their
 * own, and a client's datagram, which goes to another member. */
static __always_inline int flow_reset(struct pkt *pkt, struct flow *flow)
{
	struct flow *client = flow_client(pkt, flow);

	if ((pkt->tcp_flags & TCP_SYN) && (flow->state & FLOW_CLOSED))
		return 0;
	if (pkt->tcp_flags & TCP_RST)
		return 0;
	if (pkt->key.proto == IPPROTO_UDP && client == flow)
		return 0;
	if (client)
		flow_close(client);
	pkt->answer = ANSWER_RST_BOTH;
	return -DROP_DRAINED;
}

/*
 * Keeps the entry's view of its direction. A SYN or RST refreshes nothing: either
 * can be sent by somebody who only guesses the addresses. Nor does a segment from
 * nowhere say what comes next, or its forger could choose the number of his RST; nor
 * that its sender has finished, or two of them would end a flow that is only idle.
 */
static __always_inline int flow_track(struct pkt *pkt, struct flow *flow)
{
	bool near = flow_near(pkt, flow);
	int rc;

	if ((pkt->tcp_flags & (TCP_SYN | TCP_RST)) || (near && (pkt->tcp_flags & TCP_FIN))) {
		rc = flow_signal(pkt, flow);
		if (rc || (pkt->tcp_flags & (TCP_SYN | TCP_RST)))
			return rc;
	}
	flow_note(pkt, flow, near);
	return 0;
}

/* A datagram keeps its flow alive. One of a client whose member is down or gone, or has
 * been drained, goes to another member at once: there is no connection that could break. */
static __always_inline int flow_track_udp(struct pkt *pkt, struct flow *flow)
{
	if (!(flow->state & FLOW_MEMBER_SIDE) &&
	    ((flow->state & FLOW_RESET) || !slot_up(flow->slot))) {
		if (flow_condemn(flow))
			flow_remove(&pkt->key, flow);
		return STOP_RENEW;
	}
	if (flow->seen != pkt->now)
		flow->seen = pkt->now;
	return 0;
}
