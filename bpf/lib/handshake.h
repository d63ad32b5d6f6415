/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet of a handshake: who sent it, and what it does to the handshake. */
#pragma once

/* A packet from the client of a handshake. */
static __always_inline int half_open_from_client(const struct half_open_key *key,
						 struct half_open *client, struct pkt *pkt)
{
	__u32 state = client->flow.state;

	if (state & FLOW_COOKIE)
		return cookie_from_client(key, client, pkt);
	if (pkt->tcp_flags & TCP_SYN) {
		if (!slot_up(client->flow.slot)) {
			/* Nothing will come of it, however often it is asked. */
			if (half_open_condemn(client))
				half_open_remove(key, client, false);
			return STOP_RENEW;
		}
		client->flow.seen = pkt->now;
		return 0;
	}
	if (pkt->tcp_flags & TCP_RST) {
		/* Before the member has answered, a RST is the client's reply to a
		 * stale ACK of the port's last user; its next SYN follows. */
		if ((state & FLOW_SYN_ACK) && pkt->seq == client->flow.next)
			return half_open_condemn(client) ? STOP_LAST : 0;
		return 0;
	}
	if (!(state & FLOW_SYN_ACK) || pkt->ack != client->flow.ack)
		return -DROP_BAD_ACK;
	return half_open_promote(key, client, pkt, pkt->seq, pkt->ack);
}

/* A packet from the member of a handshake. */
static __always_inline int half_open_from_member(const struct half_open_key *key,
						 struct half_open *client, struct half_open *member,
						 struct pkt *pkt)
{
	if (client->flow.state & FLOW_COOKIE)
		return cookie_from_member(key, client, member, pkt);
	if ((pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		client->flow.ack = pkt->end;
		member->flow.next = pkt->end;
		member->flow.ack = pkt->ack;
		__sync_fetch_and_or(&client->flow.state, FLOW_SYN_ACK);
		return 0;
	}
	if ((pkt->tcp_flags & TCP_RST) && pkt->ack == client->flow.next)
		return half_open_condemn(client) ? STOP_LAST : 0;
	return 0;
}

/* A packet of a handshake. Returns 0 if there is none, STOP_AGAIN if it has just
 * become a flow: its entry is free for others now, and the packet may be more than
 * an ACK. */
__noinline int handshake_packet(ctx_t *ctx, struct pkt *pkt)
{
	struct half_open_key key = { .pool = pool_number };
	struct half_open *entry, *client;
	struct flow flow;
	int rc, sent;

	if (!pkt)
		return -DROP_INTERNAL;
	key.tuple = pkt->key;

	entry = bpf_map_lookup_elem(&half_open, &key);
	if (!entry)
		return 0;
	if (ttl_spent(pkt))
		return -DROP_TTL;
	flow = entry->flow; /* another CPU may give the entry away */
	if (!(flow.state & FLOW_MEMBER_SIDE)) {
		client = entry;
		rc = half_open_from_client(&key, client, pkt);
	} else {
		mate_key(&key.tuple, &flow, pkt->key.proto); /* the client's from here on */
		client = bpf_map_lookup_elem(&half_open, &key);
		if (!client)
			return STOP_AGAIN; /* another CPU is done with it */
		rc = half_open_from_member(&key, client, entry, pkt);
	}
	if (rc < 0 || rc == STOP_AGAIN || rc == STOP_PUNT || rc == STOP_ASK)
		return rc;
	if (rc == STOP_RENEW)
		return 0;
	flow.shift = entry->flow.shift;
	sent = forward_handshake(ctx, pkt, &flow);
	if (rc == STOP_LAST) {
		/* XDP left it to tc, which shall find it as it was. */
		if (sent == STOP_PUNT)
			__sync_fetch_and_and(&client->flow.state, ~FLOW_DEAD);
		else
			half_open_remove(&key, client, false);
	}
	return sent;
}
