/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sockets of the namespace that share our addresses and ports: those of the sidecar that
 * reads cookies. VIP_LISTENS gives it the new connections, VIP_SOCKETS lets it keep those
 * that it has, also when the kernel balances again. Both sides of one port are told apart
 * by asking the stack: what is in our tables is ours, what has a socket is not.
 *
 * Only the last hook asks; the fast lane leaves all of it to that one.
 */
#pragma once

#if HOOK_FINAL

/* Has the namespace a connection that a packet with this key belongs to? Returns its state,
 * as in BPF_TCP_…, or 0. */
static INLINE_IF_SMALL int socket_has(ctx_t *ctx, const struct flow_key *key)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 state;

	if (!key || key->proto != IPPROTO_TCP)
		return 0;
#if ADDR_WORDS == 1
	tuple.ipv4.saddr = key->saddr.word[0];
	tuple.ipv4.daddr = key->daddr.word[0];
	tuple.ipv4.sport = key->sport;
	tuple.ipv4.dport = key->dport;
	sk = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
#else
	__builtin_memcpy(tuple.ipv6.saddr, key->saddr.word, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, key->daddr.word, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = key->sport;
	tuple.ipv6.dport = key->dport;
	sk = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
#endif
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state == BPF_TCP_LISTEN ? 0 : state;
}

#else

static __always_inline int socket_has(ctx_t *ctx __attribute__((unused)),
				      const struct flow_key *key __attribute__((unused)))
{
	return 0;
}

#endif

/* Has a socket the port that a packet with this key is for? */
static __always_inline bool socket_of(ctx_t *ctx, const struct vip *vip, const struct flow_key *key)
{
	return (vip->flags & VIP_SOCKETS) && socket_has(ctx, key);
}

/* Does the packet belong to a connection of a socket? A SYN to one that is over opens
 * another, and that may be ours. */
static __always_inline bool socket_owns(ctx_t *ctx, const struct vip *vip, const struct pkt *pkt)
{
	int state = vip->flags & VIP_SOCKETS ? socket_has(ctx, &pkt->key) : 0;

	if ((pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && state == BPF_TCP_TIME_WAIT)
		return false;
	return state;
}
