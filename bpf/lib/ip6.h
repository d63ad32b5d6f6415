/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the balancer needs of its family, for IPv6; see ip4.h. Neighbour discovery
 * and router advertisements are the stack's.
 */
#pragma once

#define L3_OFF ETH_HLEN
#define IP_HLEN sizeof(struct ipv6hdr)
#define IP_ETHERTYPE ETH_P_IPV6
#define L4_MASK 0x1ff /* bounds the offset of the transport header */

#define EXT_HEADERS 6 /* extension headers that are walked over */
#define EXT_BYTES 256 /* and the bytes they may take */

typedef struct ipv6hdr ip_header;

struct ext_walk {
	ctx_t *ctx;
	__u32 next; /* header type at `off` */
	__u32 off;
	__u32 verdict; /* a drop reason */
	__u32 done;
};

/* Steps over one extension header (RFC 8200, section 4). Options are not looked
 * into; a source route and fragments end here. */
static long ext_step(__u32 step __attribute__((unused)), struct ext_walk *walk)
{
	__u8 hdr[2];

	switch (walk->next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_DSTOPTS:
		break;
	case IPPROTO_FRAGMENT:
		/* A long ping is the stack's, as every fragment of ICMP is in IPv4. */
		if (hook_load(walk->ctx, walk->off, hdr, sizeof(hdr)) || hdr[0] != IPPROTO_ICMPV6)
			walk->verdict = DROP_FRAG;
		walk->done = 1;
		return 1;
	case IPPROTO_ROUTING:
		walk->verdict = DROP_V6_EXT;
		return 1;
	default:
		walk->done = 1;
		return 1;
	}
	if (hook_load(walk->ctx, walk->off, hdr, sizeof(hdr))) {
		walk->verdict = DROP_TRUNC_L3;
		return 1;
	}
	walk->next = hdr[0];
	walk->off += (hdr[1] + 1) * 8;
	if (walk->off > L3_OFF + IP_HLEN + EXT_BYTES) {
		walk->verdict = DROP_V6_EXT;
		return 1;
	}
	return 0;
}

/* Finds the transport header. */
static __noinline int ext_skip(ctx_t *ctx, struct pkt *pkt)
{
	struct ext_walk walk = {
		.ctx = ctx,
		.next = pkt->key.proto,
		.off = L3_OFF + IP_HLEN,
	};

	bpf_loop(EXT_HEADERS + 1, ext_step, &walk, 0);
	pkt->key.proto = walk.next;
	pkt->l4 = walk.off & L4_MASK;
	if (walk.verdict)
		return -walk.verdict;
	return walk.done ? 0 : -DROP_V6_EXT;
}

static __always_inline int ip_parse(ctx_t *ctx, struct pkt *pkt)
{
	struct ipv6hdr *ip = hook_data(ctx) + L3_OFF;
	__u32 room = hook_len(ctx) - L3_OFF;
	int rc;

	if ((void *)(ip + 1) > hook_end(ctx))
		return -DROP_TRUNC_L3;
	__builtin_memcpy(&pkt->key.saddr, &ip->saddr, sizeof(pkt->key.saddr));
	__builtin_memcpy(&pkt->key.daddr, &ip->daddr, sizeof(pkt->key.daddr));
	pkt->key.proto = ip->nexthdr;
	pkt->ttl = ip->hop_limit;
	pkt->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	pkt->df = 1;
	pkt->segs = hook_segments(ctx);
	pkt->ip_len = IP_HLEN + bpf_ntohs(ip->payload_len);
	if (!ip->payload_len && pkt->segs > 1)
		pkt->ip_len = room;
	pkt->l4 = L3_OFF + IP_HLEN;
	if (ip->version != 6)
		return -DROP_IP_VER;
	if (hook_broadcast(ctx) && addr_multicast(&pkt->key.daddr))
		return STOP_PASS;
	if (pkt->ip_len > room || (!ip->payload_len && pkt->segs == 1))
		return defect(pkt, DROP_IP_LEN);
	if (!proto_known(pkt->key.proto)) {
		rc = ext_skip(ctx, pkt);
		if (rc)
			return defect(pkt, -rc);
		if (!proto_known(pkt->key.proto))
			return STOP_PASS;
	}
	if (hook_broadcast(ctx))
		return defect(pkt, DROP_L2_BCAST);
	return pkt->key.proto == IPPROTO_ICMPV6 ? STOP_ICMP : 0;
}

/* Sources that no host has: ::, ::1, multicast, and IPv4 in disguise. */
static __always_inline bool ip_martian(const struct addr *saddr)
{
	if ((bpf_ntohl(saddr->word[0]) >> 24) == 0xff)
		return true;
	if (saddr->word[0] || saddr->word[1])
		return false;
	if (saddr->word[2] == bpf_htonl(0xffff))
		return true;
	return !saddr->word[2] && bpf_ntohl(saddr->word[3]) <= 1;
}

static __always_inline void ip_rewrite(struct ipv6hdr *ip, const struct flow *flow,
				       __u64 addr_diff __attribute__((unused)))
{
	ip->hop_limit--;
	__builtin_memcpy(&ip->saddr, &flow->saddr, sizeof(flow->saddr));
	__builtin_memcpy(&ip->daddr, &flow->daddr, sizeof(flow->daddr));
}

static __always_inline void ip_route_key(struct bpf_fib_lookup *fib, const struct pkt *pkt,
					 const struct flow *flow)
{
	fib->family = 10; /* AF_INET6 */
	fib->flowinfo = bpf_htonl(pkt->tos << 20);
	__builtin_memcpy(fib->ipv6_src, &flow->saddr, sizeof(flow->saddr));
	__builtin_memcpy(fib->ipv6_dst, &flow->daddr, sizeof(flow->daddr));
}

static __always_inline void ip_build(struct ipv6hdr *ip, const struct addr *saddr,
				     const struct addr *daddr, __u8 proto, __u16 payload)
{
	ip->version = 6;
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = proto;
	ip->hop_limit = ANSWER_TTL;
	__builtin_memcpy(&ip->saddr, saddr, sizeof(*saddr));
	__builtin_memcpy(&ip->daddr, daddr, sizeof(*daddr));
}

/* IPv6 has no ARP; see neighbour_look. */
static __always_inline void arp_look(ctx_t *ctx __attribute__((unused)))
{
}

/* SYN cookies: the packet that the kernel makes a number of. */
struct cookie_packet {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

static __always_inline void cookie_addresses(struct cookie_packet *p, const struct addr *saddr,
					     const struct addr *daddr)
{
	__builtin_memcpy(&p->ip.saddr, saddr, sizeof(*saddr));
	__builtin_memcpy(&p->ip.daddr, daddr, sizeof(*daddr));
}

static __always_inline __s64 cookie_generate(struct cookie_packet *p)
{
	return bpf_tcp_raw_gen_syncookie_ipv6(&p->ip, &p->tcp, sizeof(p->tcp));
}

static __always_inline int cookie_check(struct cookie_packet *p)
{
	return bpf_tcp_raw_check_syncookie_ipv6(&p->ip, &p->tcp);
}

/* ICMPv6 (RFC 4443) */

#define ICMP_MTU_MIN 1280

enum icmp_number {
	ICMP_N_UNREACHABLE = 1,
	ICMP_N_TOO_BIG = 2,
	ICMP_N_TIME_EXCEEDED = 3,
	ICMP_N_PARAMETER = 4,
	ICMP_N_ECHO = 128,
	ICMP_N_ECHO_REPLY = 129,
	ICMP_N_DISCOVERY_FIRST = 130, /* listeners, routers, neighbours */
	ICMP_N_ADVERTISEMENT = 136,
	ICMP_N_DISCOVERY_LAST = ICMP_N_ADVERTISEMENT,
};

#define ICMP_C_PORT 4

static __always_inline bool icmp_too_big(const struct icmp_header *icmp)
{
	return icmp->type == ICMP_N_TOO_BIG;
}

static __always_inline int icmp_admit(const struct icmp_header *icmp)
{
	switch (icmp->type) {
	case ICMP_N_TOO_BIG:
		return bpf_ntohl(icmp->info) < ICMP_MTU_MIN ? -DROP_ICMP_MTU : 0;
	case ICMP_N_UNREACHABLE:
	case ICMP_N_TIME_EXCEEDED:
	case ICMP_N_PARAMETER:
		return 0;
	case ICMP_N_ECHO ... ICMP_N_DISCOVERY_LAST:
		return STOP_PASS;
	default:
		return -DROP_ICMP_TYPE;
	}
}

static __always_inline void icmp_fill(struct icmp_header *icmp, enum answer answer, __u32 mtu)
{
	switch (answer) {
	case ANSWER_FRAG_NEEDED:
		icmp->type = ICMP_N_TOO_BIG;
		icmp->info = bpf_htonl(mtu);
		break;
	case ANSWER_TIME_EXCEEDED:
		icmp->type = ICMP_N_TIME_EXCEEDED;
		break;
	default:
		icmp->type = ICMP_N_UNREACHABLE;
		icmp->code = ICMP_C_PORT;
	}
}

static __always_inline __u64 icmp_pseudo(const struct addr *saddr, const struct addr *daddr,
					 __u16 len)
{
	return csum_pseudo(saddr, daddr, IPPROTO_ICMPV6, len);
}

static __always_inline __u64 icmp_addr_diff(__u64 addr_diff)
{
	return addr_diff;
}

/* What arp_look is for ARP: a neighbour advertisement of an address of ours. */
static __always_inline void neighbour_look(ctx_t *ctx, const struct pkt *pkt)
{
	struct {
		struct icmp_header icmp;
		struct addr target;
	} nd;

	if (!hook_load(ctx, pkt->l4, &nd, sizeof(nd)) && nd.icmp.type == ICMP_N_ADVERTISEMENT &&
	    addr_ours(&nd.target))
		count_event(EVENT_ARP_CONFLICT);
}

static __always_inline int quote_ip(ctx_t *ctx, struct icmp_quote *q)
{
	struct ipv6hdr ip;

	if (hook_load(ctx, q->ip, &ip, sizeof(ip)) || ip.version != 6 ||
	    bpf_ntohs(ip.payload_len) < ICMP_QUOTE_MIN)
		return -DROP_ICMP_INNER;
	q->l4 = q->ip + sizeof(ip);
	__builtin_memcpy(&q->key.saddr, &ip.daddr, sizeof(q->key.saddr));
	__builtin_memcpy(&q->key.daddr, &ip.saddr, sizeof(q->key.daddr));
	q->key.proto = ip.nexthdr;
	return 0;
}

/* It has none. */
static __always_inline bool quote_ip_right(ctx_t *ctx __attribute__((unused)),
					   const struct icmp_quote *q __attribute__((unused)))
{
	return true;
}

static __always_inline int quote_ip_rewrite(ctx_t *ctx, const struct icmp_quote *q,
					    const struct flow *flow, __u64 addr_diff, __u64 *diff)
{
	*diff += addr_diff;
	if (hook_store(ctx, q->ip + offsetof(struct ipv6hdr, saddr), &flow->daddr,
		       sizeof(flow->daddr)) ||
	    hook_store(ctx, q->ip + offsetof(struct ipv6hdr, daddr), &flow->saddr,
		       sizeof(flow->saddr)))
		return -DROP_INTERNAL;
	return 0;
}
