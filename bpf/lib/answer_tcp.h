/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A RST to a sender that shall not wait, and to its peer. Built whole on the stack and
 * stored over the packet that is answered, so that the answer never holds more bytes
 * than came in.
 *
 * The skb's checksum may be partial, which BPF cannot read: a probe tells (the
 * kernel leaves the field of a partial sum alone). A partial field holds the folded
 * pseudo header and the device adds the rest; else it holds the whole sum.
 */
#pragma once

#define ANSWER_LEN (L3_OFF + IP_HLEN + sizeof(struct tcphdr))
#define ANSWER_OPTION 0x02040000 /* the largest segment, RFC 9293 3.2 */
#define ANSWER_OPTION_LEN sizeof(__be32)

struct answer_frame {
	__u16 pad; /* so that what follows Ethernet is aligned */
	struct ethhdr eth;
	ip_header ip;
	struct tcphdr tcp;
	__be32 option;
};

/* A TCP segment without payload, in packet terms. */
struct answer_tcp {
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;
	__u32 seq;
	__u32 ack;
	__u32 flags;
	__u16 window;
	__u16 segment; /* of a SYN: its largest one; 0 = not said */
};

/* Is the transport sum at off left to the device? Spoils the field. */
static __always_inline bool csum_is_partial(ctx_t *ctx, __u32 off)
{
	__u16 before = 0, after = 0;

	bpf_skb_load_bytes(ctx, off, &before, sizeof(before));
	bpf_l4_csum_replace(ctx, off, 0, 1, sizeof(before));
	bpf_skb_load_bytes(ctx, off, &after, sizeof(after));
	return before == after;
}

static __always_inline void answer_segment(struct answer_frame *f, const struct answer_tcp *a,
					   bool partial)
{
	__u32 len = sizeof(f->tcp) + (a->segment ? ANSWER_OPTION_LEN : 0);
	__u32 sum = csum_fold32(csum_pseudo(&a->saddr, &a->daddr, IPPROTO_TCP, len));

	f->tcp.source = a->sport;
	f->tcp.dest = a->dport;
	f->tcp.seq = bpf_htonl(a->seq);
	f->tcp.ack_seq = bpf_htonl(a->ack);
	f->tcp.doff = len / 4;
	((__u8 *)&f->tcp)[13] = a->flags;
	f->tcp.window = bpf_htons(a->window);
	if (a->segment)
		f->option = bpf_htonl(ANSWER_OPTION | a->segment);
	if (partial) {
		f->tcp.check = csum_fold(sum);
		return;
	}
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&f->tcp, sizeof(f->tcp) + ANSWER_OPTION_LEN, sum);
	f->tcp.check = ~csum_fold(sum);
}

static __always_inline __u32 answer_len(const struct answer_tcp *a)
{
	return ANSWER_LEN + (a->segment ? ANSWER_OPTION_LEN : 0);
}

/* Makes the packet as long as its answer. */
static __always_inline int answer_resize(ctx_t *ctx, const struct answer_tcp *a)
{
	return bpf_skb_change_tail(ctx, answer_len(a), 0);
}

/* Stores the segment as the whole packet, with the given MAC addresses. */
static __noinline int answer_store(ctx_t *ctx, const struct answer_tcp *a, const __u8 *macs)
{
	bool partial = csum_is_partial(ctx, L3_OFF + IP_HLEN + TCP_SUM_OFF);
	struct answer_frame f = {};

	__builtin_memcpy(f.eth.h_dest, macs, ETH_ALEN);
	__builtin_memcpy(f.eth.h_source, macs + ETH_ALEN, ETH_ALEN);
	f.eth.h_proto = bpf_htons(IP_ETHERTYPE);
	ip_build(&f.ip, &a->saddr, &a->daddr, IPPROTO_TCP, answer_len(a) - L3_OFF - IP_HLEN);
	answer_segment(&f, a, partial);
	return bpf_skb_store_bytes(ctx, 0, &f.eth, answer_len(a), 0);
}

/* RFC 9293 3.10.7.1: the reset that a closed port would send. */
static __always_inline void answer_to_sender(const struct pkt *pkt, struct answer_tcp *a)
{
	a->saddr = pkt->key.daddr;
	a->daddr = pkt->key.saddr;
	a->sport = pkt->key.dport;
	a->dport = pkt->key.sport;
	if (pkt->tcp_flags & TCP_ACK) {
		a->seq = pkt->ack;
		a->flags = TCP_RST;
	} else {
		a->ack = pkt->end;
		a->flags = TCP_RST | TCP_ACK;
	}
}

/* The same for the peer. It waits for what comes after all that the sender has shown so
 * far; the packet itself may be a keepalive, which stands before that. */
static __always_inline int answer_to_peer(ctx_t *ctx, struct pkt *pkt, struct flow *flow)
{
	struct answer_tcp a = {
		.saddr = flow->saddr,
		.daddr = flow->daddr,
		.sport = flow->sport,
		.dport = flow->dport,
		.seq = flow->next + seq_shift(flow),
		.flags = TCP_RST,
	};
	__u8 macs[2 * ETH_ALEN];

	if (route(ctx, pkt, flow) || pkt->resolve)
		return 0;
	__builtin_memcpy(macs, pkt->dmac, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, pkt->smac, ETH_ALEN);
	if (answer_store(ctx, &a, macs))
		return 0;
	return bpf_clone_redirect(ctx, pkt->out, 0);
}

/* Answers with a RST, and with another one to the peer if the flow is to end. */
static __always_inline int answer_rst(ctx_t *ctx, struct pkt *pkt, const __u8 *macs)
{
	struct answer_tcp a = {};
	struct flow *flow;

	if (pkt->key.proto != IPPROTO_TCP || (pkt->tcp_flags & TCP_RST) ||
	    bpf_skb_change_tail(ctx, ANSWER_LEN, 0))
		return -1;
	if (pkt->answer == ANSWER_RST_BOTH) {
		flow = bpf_map_lookup_elem(&flows, &pkt->key);
		if (flow)
			answer_to_peer(ctx, pkt, flow);
	}
	answer_to_sender(pkt, &a);
	return answer_store(ctx, &a, macs);
}
