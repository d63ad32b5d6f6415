/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SYN cookies: what a pool does about a flood of SYNs. While it has calm_handshakes
 * in flight, a SYN opens nothing. It is answered by us, with a sequence
 * number that only who receives the answer can send back; members hear of the client
 * when it does. So spoofed SYNs cost neither entries nor ports, and members get no
 * more of them than expire meanwhile.
 *
 * The client then knows us by numbers that the member has not chosen: they are
 * shifted for the life of the flow. Nothing that needs memory can be agreed upon in
 * such a handshake: no window scale, no selective acknowledgment, no timestamps. The
 * client's largest segment is remembered roughly, as one of four sizes in the number.
 * The answer offers no window, so that the client waits for the member's before it
 * sends.
 *
 *	client            we                     member
 *	  SYN      ──►  SYN+ACK, window 0
 *	  ACK      ──►    is the number ours?  ──►  SYN
 *	           ◄──  ACK, its window   ACK  ◄──► SYN+ACK
 *
 * Nobody sends the member's SYN again but the client's next packet: it is the one
 * who waits. Keys and numbers are the kernel's own.
 */
#pragma once

/* How long a client may take to come back: the kernel's numbers are good for two
 * minutes. */
#define COOKIE_TICKS (150 * TICKS_PER_SEC)

#define COOKIE_SIZES 4

/* For the ACK of a SYN+ACK that was sent again, when nobody knows any more what the
 * client had offered. */
#define COOKIE_WINDOW 1220

static __always_inline __u16 cookie_segment(__u32 size)
{
	switch (size) {
	case 3:
		return 1500 - IP_HLEN - sizeof(struct tcphdr); /* what nearly every host takes */
	case 2:
		return 1400;
	case 1:
		return 1220;
	default:
		return 536;
	}
}

/* The largest of the sizes that the client takes. */
static __always_inline __u32 cookie_size(__u16 segment)
{
	__u32 size;

	for (size = COOKIE_SIZES - 1; size; size--)
		if (segment >= cookie_segment(size))
			break;
	return size;
}

/* Has a SYN been answered so lately that its client may come back? */
static __always_inline bool cookies_lately(const struct pool_state *ps, __u32 now, __u32 ticks)
{
	return ps->cookies && now - ps->cookies + TICKS_PER_SEC < ticks + TICKS_PER_SEC;
}

/* Shall the client show that it exists before it gets anything? */
static __always_inline bool cookie_wanted(const struct pkt *pkt)
{
	struct half_open_use *use = use_of(pool_number);
	struct half_open_node *node;
	__u32 zero = 0;

	if (pkt->key.proto != IPPROTO_TCP || pkt->cookie || !use)
		return false;
	if (use->handshakes >= calm_handshakes)
		return true;
	/* Many pools together can fill the ring too; those that hold next to nothing are
	 * not the reason. */
	node = bpf_map_lookup_elem(&half_open_node, &zero);
	return node && node->lapped &&
	       pkt->now - node->lapped + TICKS_PER_SEC < 3 * TICKS_PER_SEC &&
	       use->handshakes >= calm_handshakes / 8;
}

/* Ends a SYN here, to be answered with a cookie. */
static __always_inline int cookie_demand(struct pool_state *ps, struct pkt *pkt)
{
	if (ps->cookies != (pkt->now | 1))
		ps->cookies = pkt->now | 1;
	pkt->answer = ANSWER_COOKIE;
	return -DROP_SYN_COOKIE;
}

#if HOOK_FINAL

/* What the kernel makes the number of: addresses, ports, the client's number. The
 * segment size is mixed into our own address, which is the same for all clients. */
static __always_inline void cookie_fill(struct cookie_packet *p, const struct pkt *pkt, __u32 ack,
					__u32 size)
{
	struct addr daddr = pkt->key.daddr;

	daddr.word[ADDR_WORDS - 1] ^= size;
	cookie_addresses(p, &pkt->key.saddr, &daddr);
	p->tcp.source = pkt->key.sport;
	p->tcp.dest = pkt->key.dport;
	p->tcp.seq = bpf_htonl(pkt->seq);
	p->tcp.ack_seq = bpf_htonl(ack);
	p->tcp.doff = sizeof(p->tcp) / 4;
}

/* The number for a SYN; negative: none. */
static __always_inline __s64 cookie_make(const struct pkt *pkt, __u32 size)
{
	struct cookie_packet p = {};

	cookie_fill(&p, pkt, 0, size);
	return cookie_generate(&p);
}

static INLINE_IF_SMALL int cookie_right(const struct pkt *pkt, __u32 ack, __u32 size)
{
	struct cookie_packet p = {};

	cookie_fill(&p, pkt, ack, size);
	return !cookie_check(&p);
}

/* The size that was answered to a SYN whose number the packet acknowledges, + 1. */
static __always_inline int cookie_answered_size(const struct pkt *pkt)
{
	__u32 size;

	for (size = 0; size < COOKIE_SIZES; size++)
		if (cookie_right(pkt, pkt->ack, size))
			return size + 1;
	return 0;
}

/*
 * Does the packet bring back a number of ours? The kernel keeps two bits of its own
 * in it, which are 0 for us, and adds the client's number to it: so it takes an
 * acknowledgment that is up to three too high, or a client's number that is up to
 * three too low. The first is nobody's. The second is the probe of a client that waits
 * for a window, because its ACK got lost: it has the number before the next one.
 */
static INLINE_IF_SMALL int cookie_read(ctx_t *ctx, struct pkt *pkt)
{
	int size = cookie_answered_size(pkt);
	__be16 window = 0;

	if (!size ||
	    hook_load(ctx, pkt->l4 + offsetof(struct tcphdr, window), &window, sizeof(window)))
		return 0;
	if (cookie_right(pkt, pkt->ack - 1, size - 1)) {
		if (cookie_right(pkt, pkt->ack - 2, size - 1))
			return 0;
		pkt->seq++;
	}
	pkt->cookie = size;
	pkt->window = bpf_ntohs(window);
	count_event(EVENT_COOKIE_ACCEPTED);
	return 1;
}
#endif

/* Is this the ACK of a client that was sent a cookie? Then it may open what its SYN
 * could not. STOP_PUNT: the other program is to look. */
static __always_inline int cookie_returned(ctx_t *ctx, struct pkt *pkt)
{
	struct pool_state *ps = pool_state_get();

	if (!ps || !cookies_lately(ps, pkt->now, COOKIE_TICKS) ||
	    (pkt->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK)
		return 0;
#if HOOK_FINAL
	return cookie_read(ctx, pkt);
#else
	(void)ctx;
	return STOP_PUNT;
#endif
}

/* A packet from the client of a handshake that a cookie has opened: until the member
 * answers it can only make us ask again. */
static __always_inline int cookie_from_client(const struct half_open_key *key,
					      struct half_open *client, struct pkt *pkt)
{
	if (!HOOK_FINAL)
		return STOP_PUNT;
	if (pkt->tcp_flags & TCP_SYN) {
		/* The client has begun again. */
		if (half_open_condemn(client))
			half_open_remove(key, client, false);
		return STOP_RENEW;
	}
	if (pkt->tcp_flags & TCP_RST) {
		if (pkt->seq == client->flow.next)
			return half_open_condemn(client) ? STOP_LAST : 0;
		return 0;
	}
	return pkt->ack == client->flow.ack ? STOP_ASK : -DROP_BAD_ACK;
}

/* A packet from that handshake's member. The numbers' difference is known from here on. */
static __always_inline int cookie_from_member(const struct half_open_key *key,
					      struct half_open *client, struct half_open *member,
					      struct pkt *pkt)
{
	if (!HOOK_FINAL)
		return STOP_PUNT;
	if ((pkt->tcp_flags & TCP_ACK) && pkt->ack == client->flow.next) {
		if (pkt->tcp_flags & TCP_SYN) {
			client->flow.shift = member->flow.shift = client->flow.ack - pkt->end;
			member->flow.next = pkt->end;
			member->flow.ack = pkt->ack;
			pkt->window = client->window;
			return half_open_promote(key, client, pkt, client->flow.next,
						 client->flow.ack);
		}
		if (pkt->tcp_flags & TCP_RST) {
			client->flow.shift = member->flow.shift = client->flow.ack - pkt->seq;
			return half_open_condemn(client) ? STOP_LAST : 0;
		}
	}
	/* The port's last user has left the member waiting: it is told that he is gone. */
	if (!(pkt->tcp_flags & TCP_RST))
		pkt->answer = ANSWER_RST;
	return -DROP_BAD_ACK;
}
