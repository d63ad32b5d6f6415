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

#define ANSWER_LEN (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define ANSWER_CSUM_OFF (ETH_HLEN + sizeof(struct iphdr) + 16)
#define ANSWER_TTL 64

struct answer_frame {
	__u16 pad; /* so that what follows Ethernet is aligned */
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
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
};

/* Is the transport sum left to the device? Spoils the field, which is written anew. */
static __always_inline bool csum_is_partial(ctx_t *ctx)
{
	__u16 before = 0, after = 0;

	bpf_skb_load_bytes(ctx, ANSWER_CSUM_OFF, &before, sizeof(before));
	bpf_l4_csum_replace(ctx, ANSWER_CSUM_OFF, 0, 1, sizeof(before));
	bpf_skb_load_bytes(ctx, ANSWER_CSUM_OFF, &after, sizeof(after));
	return before == after;
}

static __always_inline void answer_ip(struct answer_frame *f, const struct answer_tcp *a)
{
	__s64 sum;

	f->eth.h_proto = bpf_htons(ETH_P_IP);
	f->ip.version = 4;
	f->ip.ihl = 5;
	f->ip.tot_len = bpf_htons(sizeof(f->ip) + sizeof(f->tcp));
	f->ip.frag_off = bpf_htons(0x4000);
	f->ip.ttl = ANSWER_TTL;
	f->ip.protocol = IPPROTO_TCP;
	f->ip.saddr = a->saddr.word[0];
	f->ip.daddr = a->daddr.word[0];
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&f->ip, sizeof(f->ip), 0);
	f->ip.check = ~csum_fold((__u32)sum);
}

static __always_inline void answer_segment(struct answer_frame *f, const struct answer_tcp *a,
					   bool partial)
{
	struct {
		__be32 saddr, daddr, proto_len;
	} pseudo = { a->saddr.word[0], a->daddr.word[0],
		     bpf_htonl(IPPROTO_TCP << 16 | sizeof(f->tcp)) };
	__u32 sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);

	f->tcp.source = a->sport;
	f->tcp.dest = a->dport;
	f->tcp.seq = bpf_htonl(a->seq);
	f->tcp.ack_seq = bpf_htonl(a->ack);
	f->tcp.doff = sizeof(f->tcp) / 4;
	((__u8 *)&f->tcp)[13] = a->flags;
	if (partial) {
		f->tcp.check = csum_fold(sum);
		return;
	}
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&f->tcp, sizeof(f->tcp), sum);
	f->tcp.check = ~csum_fold(sum);
}

/* Stores the segment as the whole packet, with the given MAC addresses. */
static __noinline int answer_store(ctx_t *ctx, const struct answer_tcp *a, const __u8 *macs)
{
	bool partial = csum_is_partial(ctx);
	struct answer_frame f = {};

	__builtin_memcpy(f.eth.h_dest, macs, ETH_ALEN);
	__builtin_memcpy(f.eth.h_source, macs + ETH_ALEN, ETH_ALEN);
	answer_ip(&f, a);
	answer_segment(&f, a, partial);
	return bpf_skb_store_bytes(ctx, 0, &f.eth, ANSWER_LEN, 0);
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

/* The same for the peer: its next expected number is the sender's own. */
static __noinline int answer_to_peer(ctx_t *ctx, struct pkt *pkt, struct flow *flow)
{
	struct answer_tcp a = {
		.saddr = flow->saddr,
		.daddr = flow->daddr,
		.sport = flow->sport,
		.dport = flow->dport,
		.seq = pkt->seq,
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

	if ((pkt->tcp_flags & TCP_RST) || bpf_skb_change_tail(ctx, ANSWER_LEN, 0))
		return -1;
	if (pkt->answer == ANSWER_RST_BOTH) {
		flow = bpf_map_lookup_elem(&flows, &pkt->key);
		if (flow)
			answer_to_peer(ctx, pkt, flow);
	}
	answer_to_sender(pkt, &a);
	return answer_store(ctx, &a, macs);
}
