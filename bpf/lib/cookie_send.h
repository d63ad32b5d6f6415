/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The segments of our own that a connection by cookie needs: the answer to the SYN,
 * the SYN to the member, and the two ACKs that its answer makes of. tc only.
 */
#pragma once

#define TCPOPT_MSS 2
#define TCPOLEN_MSS 4

/* The largest segment that the client takes; nearly every host says so first. */
static __always_inline __u16 client_segment(ctx_t *ctx, const struct pkt *pkt)
{
	struct {
		__u8 kind, len;
		__be16 segment;
	} option = {};

	if (pkt->l4_len < sizeof(struct tcphdr) + TCPOLEN_MSS ||
	    hook_load(ctx, pkt->l4 + sizeof(struct tcphdr), &option, sizeof(option)))
		return 0;
	return option.kind == TCPOPT_MSS && option.len == TCPOLEN_MSS ? bpf_ntohs(option.segment) :
									0;
}

/* Answers a SYN with a cookie. Only a SYN with options gets one back: the answer is no
 * longer than what it answers. */
static __always_inline int answer_cookie(ctx_t *ctx, struct pkt *pkt, const __u8 *macs)
{
	__u32 size = cookie_size(client_segment(ctx, pkt));
	__s64 cookie = cookie_make(pkt, size);
	struct answer_tcp a = {
		.saddr = pkt->key.daddr,
		.daddr = pkt->key.saddr,
		.sport = pkt->key.dport,
		.dport = pkt->key.sport,
		.seq = cookie,
		.ack = pkt->seq + 1,
		.flags = TCP_SYN | TCP_ACK,
		.segment = pkt->l4_len > sizeof(struct tcphdr) ? cookie_segment(size) : 0,
	};

	if (cookie < 0 || answer_resize(ctx, &a))
		return -1;
	return answer_store(ctx, &a, macs);
}

/* Turns the client's packet into the SYN that its cookie stands for. */
__noinline int cookie_ask(ctx_t *ctx, struct pkt *pkt)
{
	struct half_open_key key = { .pool = pool_number };
	struct answer_tcp a = { .flags = TCP_SYN };
	__u8 macs[2 * ETH_ALEN];
	struct half_open *client;
	int rc;

	if (!pkt)
		return -DROP_INTERNAL;
	key.tuple = pkt->key;
	client = bpf_map_lookup_elem(&half_open, &key);
	if (!client)
		return STOP_AGAIN; /* another CPU is done with it */
	rc = route(ctx, pkt, &client->flow);
	if (rc)
		return rc;
	a.saddr = client->flow.saddr;
	a.daddr = client->flow.daddr;
	a.sport = client->flow.sport;
	a.dport = client->flow.dport;
	a.seq = client->flow.next - 1;
	a.window = client->window;
	a.segment = client->segment;
	member_count(pkt, &client->flow);
	__builtin_memcpy(macs, pkt->dmac, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, pkt->smac, ETH_ALEN);
	if (answer_resize(ctx, &a) || answer_store(ctx, &a, macs))
		return -DROP_INTERNAL;
	return STOP_FORWARD;
}

/* The member has answered: it gets its ACK, and the client one that opens the window.
 * The member is known by the frame; the client's next hop the kernel may have to find. */
static INLINE_IF_SMALL int cookie_complete(ctx_t *ctx, struct pkt *pkt, struct flow *flow)
{
	struct answer_tcp a = {};
	__u8 macs[2 * ETH_ALEN];
	__be16 window = 0;
	int rc = route(ctx, pkt, flow);

	if (rc)
		return rc;
	if (hook_load(ctx, pkt->l4 + offsetof(struct tcphdr, window), &window, sizeof(window)) ||
	    hook_load(ctx, ETH_ALEN, macs, ETH_ALEN) ||
	    hook_load(ctx, 0, macs + ETH_ALEN, ETH_ALEN))
		return -DROP_INTERNAL;
	member_count(pkt, flow);
	answer_to_sender(pkt, &a);
	a.ack = pkt->end;
	a.flags = TCP_ACK;
	a.window = pkt->window ?: COOKIE_WINDOW;
	if (answer_resize(ctx, &a) || answer_store(ctx, &a, macs))
		return -DROP_INTERNAL;
	bpf_clone_redirect(ctx, hook_ifindex(ctx), 0);
	a.saddr = flow->saddr;
	a.daddr = flow->daddr;
	a.sport = flow->sport;
	a.dport = flow->dport;
	a.seq = pkt->end + flow->shift;
	a.ack = pkt->ack;
	a.window = bpf_ntohs(window);
	if (!pkt->resolve) {
		__builtin_memcpy(macs, pkt->dmac, ETH_ALEN);
		__builtin_memcpy(macs + ETH_ALEN, pkt->smac, ETH_ALEN);
	}
	return answer_store(ctx, &a, macs) ? -DROP_INTERNAL : STOP_FORWARD;
}
