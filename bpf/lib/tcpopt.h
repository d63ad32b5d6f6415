/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The timestamp option (RFC 7323), wherever it stands.
 *
 * All clients reach a member from one address, so that a (address, port) pair is
 * soon used again while the member still holds it in TIME-WAIT, and the member
 * then compares the new SYN's timestamp with the old connection's: clocks of two
 * clients that have nothing to do with each other. Hence every connection's TSval
 * is shifted onto the balancer's own millisecond clock on its way to the member,
 * and the echo is shifted back.
 */
#pragma once

#define TCPOPT_EOL 0
#define TCPOPT_NOP 1
#define TCPOPT_TIMESTAMP 8
#define TCPOLEN_TIMESTAMP 10
#define TCP_OPTIONS_MAX 40

struct option_walk {
	__u8 bytes[TCP_OPTIONS_MAX];
	__u32 len;
	__u32 at;
	__u32 found; /* offset of the timestamp option + 1 */
};

static long option_step(__u32 step __attribute__((unused)), struct option_walk *walk)
{
	__u32 at = walk->at;
	__u8 kind, len;

	if (at >= walk->len || at >= TCP_OPTIONS_MAX)
		return 1;
	kind = walk->bytes[at];
	if (kind == TCPOPT_EOL)
		return 1;
	if (kind == TCPOPT_NOP) {
		walk->at = at + 1;
		return 0;
	}
	if (at + 1 >= walk->len || at + 1 >= TCP_OPTIONS_MAX)
		return 1;
	len = walk->bytes[at + 1];
	if (kind == TCPOPT_TIMESTAMP) {
		if (len == TCPOLEN_TIMESTAMP && at + len <= walk->len)
			walk->found = at + 1;
		return 1;
	}
	if (len < 2)
		return 1; /* nonsense: the endpoints may make of it what they like */
	walk->at = at + len;
	return 0;
}

static INLINE_IF_SMALL __u32 timestamp_walk(ctx_t *ctx, __u32 off, __u32 len)
{
	struct option_walk walk = {};

	if (!len || len > TCP_OPTIONS_MAX)
		return 0;
	if (hook_load(ctx, off, walk.bytes, len))
		return 0;
	walk.len = len;
	bpf_loop(TCP_OPTIONS_MAX, option_step, &walk, 0);
	return walk.found ? off + walk.found - 1 + 2 : 0;
}

/* The offset of TSval in the packet, 0 = there is none. The two layouts that
 * nearly every host sends are tried first. */
static __always_inline __u32 timestamp_find(ctx_t *ctx, const struct pkt *pkt)
{
	__u32 off = (pkt->l4 & L4_MASK) + sizeof(struct tcphdr);
	__u32 len = pkt->l4_len - sizeof(struct tcphdr);
	__u8 *opt;

	if (len < TCPOLEN_TIMESTAMP)
		return 0;
	opt = hook_data(ctx) + off;
	if ((void *)(opt + 12) <= hook_end(ctx)) {
		if (len >= 12 && opt[0] == TCPOPT_NOP && opt[1] == TCPOPT_NOP &&
		    opt[2] == TCPOPT_TIMESTAMP && opt[3] == TCPOLEN_TIMESTAMP)
			return off + 4;
	}
	return timestamp_walk(ctx, off, len);
}
