/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How a connection ends for those who count connections; its entries stay for a while. */
#pragma once

/* Established: one more, or one less. */
static __always_inline void flow_count(__u32 slot, int n)
{
	struct pool_state *ps = pool_state_get();
	struct member_state *ms = member_state_get(slot);

	if (ps)
		__sync_fetch_and_add(&ps->active, n);
	if (ms)
		__sync_fetch_and_add(&ms->active, n);
}

/* The connection is over, whatever still travels. Counts once. */
static __always_inline void flow_close(struct flow *client)
{
	struct pool_state *ps = pool_state_get();
	__u32 slot = client->slot;

	if (__sync_fetch_and_or(&client->state, FLOW_CLOSED) & FLOW_CLOSED)
		return;
	flow_count(slot, -1);
	conns_add(slot, -1);
	if (ps && ps->fruitless)
		ps->fruitless = 0;
}

/* The client side's entry of a flow found from either side. */
static __always_inline struct flow *flow_client(const struct pkt *pkt, struct flow *flow)
{
	struct flow_key key = {};

	if (!(flow->state & FLOW_MEMBER_SIDE))
		return flow;
	mate_key(&key, flow, pkt->key.proto);
	return bpf_map_lookup_elem(&flows, &key);
}

/* One side has finished, and the connection if it is the second one. */
static __always_inline void flow_finish(const struct flow *flow, struct flow *client)
{
	bool from_member = flow->state & FLOW_MEMBER_SIDE;
	__u32 fin = from_member ? FLOW_FIN_MEMBER : FLOW_FIN_CLIENT;
	__u32 other = from_member ? FLOW_FIN_CLIENT : FLOW_FIN_MEMBER;

	if (__sync_fetch_and_or(&client->state, fin) & other)
		flow_close(client);
}
