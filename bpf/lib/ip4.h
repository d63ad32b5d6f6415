/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the balancer needs of its family, for IPv4: the IP header and ICMP. ip6.h is
 * the same for IPv6.
 */
#pragma once

#define L3_OFF ETH_HLEN
#define IP_HLEN sizeof(struct iphdr)
#define IP_ETHERTYPE ETH_P_IP
#define L4_MASK 0x7f /* bounds the offset of the transport header */

#define IP_DF 0x4000
#define IP_MF_OFFSET 0x3fff /* more fragments, or not the first */
#define IP_OFFSET 0x1fff

typedef struct iphdr ip_header;

/* Reads and judges the IP header. STOP_ICMP for a whole ICMP packet. */
static __always_inline int ip_parse(ctx_t *ctx, struct pkt *pkt)
{
	struct iphdr *ip = hook_data(ctx) + L3_OFF;
	__u32 room = hook_len(ctx) - L3_OFF;
	__u32 hdr;

	if ((void *)(ip + 1) > hook_end(ctx))
		return -DROP_TRUNC_L3;
	pkt->key.saddr.word[0] = ip->saddr;
	pkt->key.daddr.word[0] = ip->daddr;
	pkt->key.proto = ip->protocol;
	pkt->ttl = ip->ttl;
	pkt->tos = ip->tos;
	pkt->df = ip->frag_off & bpf_htons(IP_DF);
	pkt->segs = hook_segments(ctx);
	pkt->ip_len = bpf_ntohs(ip->tot_len);
	if (!pkt->ip_len && pkt->segs > 1)
		pkt->ip_len = room; /* a super-packet above 64 kB has no length */
	hdr = ip->ihl * 4;
	pkt->l4 = L3_OFF + hdr;
	if (ip->version != 4)
		return -DROP_IP_VER;
	if (!proto_known(pkt->key.proto))
		return STOP_PASS;
	if (hdr < sizeof(*ip))
		return defect(pkt, DROP_IP_IHL);
	if (pkt->ip_len < hdr || pkt->ip_len > room)
		return defect(pkt, DROP_IP_LEN);
	if (hook_broadcast(ctx))
		return defect(pkt, DROP_L2_BCAST);
	if (pkt->key.proto == IPPROTO_ICMP)
		return ip->frag_off & bpf_htons(IP_MF_OFFSET) ? STOP_PASS : STOP_ICMP;
	if (hdr > sizeof(*ip))
		return defect(pkt, DROP_IP_OPTS);
	if (ip->frag_off & bpf_htons(IP_MF_OFFSET))
		return defect(pkt, DROP_FRAG);
	return 0;
}

/* Sources that no host has (RFC 1122 3.2.1.3, RFC 1812 5.3.7). */
static __always_inline bool ip_martian(const struct addr *saddr)
{
	__u8 first = bpf_ntohl(saddr->word[0]) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Another host that says it has an address of ours is only counted: who is right, the
 * neighbours decide. Our own announcements do not come back to us. */
static __always_inline void arp_look(ctx_t *ctx)
{
	struct addr sender;

	if (!hook_load(ctx, ETH_HLEN + 14, &sender, sizeof(sender)) && addr_ours(&sender))
		count_event(EVENT_ARP_CONFLICT);
}

/* Gives an IP header other addresses and one hop less. */
static __always_inline void ip_rewrite(struct iphdr *ip, const struct flow *flow, __u64 addr_diff)
{
	__u64 sum = (__u64)(__u16)~ip->check + addr_diff;

	sum += (__u16) ~(ip->ttl | ip->protocol << 8);
	ip->ttl--;
	sum += (__u16)(ip->ttl | ip->protocol << 8);
	ip->check = ~csum_fold(sum);
	ip->saddr = flow->saddr.word[0];
	ip->daddr = flow->daddr.word[0];
}

static __always_inline void ip_route_key(struct bpf_fib_lookup *fib, const struct pkt *pkt,
					 const struct flow *flow)
{
	fib->family = 2; /* AF_INET */
	fib->tos = pkt->tos;
	fib->ipv4_src = flow->saddr.word[0];
	fib->ipv4_dst = flow->daddr.word[0];
}

/* The header of a packet of our own. */
static __always_inline void ip_build(struct iphdr *ip, const struct addr *saddr,
				     const struct addr *daddr, __u8 proto, __u16 payload)
{
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tot_len = bpf_htons(sizeof(*ip) + payload);
	ip->frag_off = bpf_htons(IP_DF);
	ip->ttl = ANSWER_TTL;
	ip->protocol = proto;
	ip->saddr = saddr->word[0];
	ip->daddr = daddr->word[0];
	ip->check = ~csum_fold((__u32)bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
}

/* SYN cookies: the packet that the kernel makes a number of. */
struct cookie_packet {
	struct iphdr ip;
	struct tcphdr tcp;
};

static __always_inline void cookie_addresses(struct cookie_packet *p, const struct addr *saddr,
					     const struct addr *daddr)
{
	p->ip.saddr = saddr->word[0];
	p->ip.daddr = daddr->word[0];
}

static __always_inline __s64 cookie_generate(struct cookie_packet *p)
{
	return bpf_tcp_raw_gen_syncookie_ipv4(&p->ip, &p->tcp, sizeof(p->tcp));
}

static __always_inline int cookie_check(struct cookie_packet *p)
{
	return bpf_tcp_raw_check_syncookie_ipv4(&p->ip, &p->tcp);
}

/* ICMP */

#define ICMP_MTU_MIN 552 /* no path is narrower, but forgers would like it */

enum icmp_number {
	ICMP_N_ECHO_REPLY = 0,
	ICMP_N_UNREACHABLE = 3,
	ICMP_N_ECHO = 8,
	ICMP_N_TIME_EXCEEDED = 11,
	ICMP_N_PARAMETER = 12,
};

#define ICMP_C_PORT 3
#define ICMP_C_FRAG_NEEDED 4

static __always_inline bool icmp_too_big(const struct icmp_header *icmp)
{
	return icmp->type == ICMP_N_UNREACHABLE && icmp->code == ICMP_C_FRAG_NEEDED;
}

/* Errors that somebody may have translated; everything else of ICMP is the stack's,
 * or nobody's. */
static __always_inline int icmp_admit(const struct icmp_header *icmp)
{
	switch (icmp->type) {
	case ICMP_N_ECHO:
	case ICMP_N_ECHO_REPLY:
		return STOP_PASS;
	case ICMP_N_UNREACHABLE:
		if (icmp_too_big(icmp) && (bpf_ntohl(icmp->info) & 0xffff) < ICMP_MTU_MIN)
			return -DROP_ICMP_MTU;
		return 0;
	case ICMP_N_TIME_EXCEEDED:
	case ICMP_N_PARAMETER:
		return 0;
	default:
		return -DROP_ICMP_TYPE;
	}
}

static __always_inline void icmp_fill(struct icmp_header *icmp, enum answer answer, __u32 mtu)
{
	icmp->type = ICMP_N_UNREACHABLE;
	switch (answer) {
	case ANSWER_FRAG_NEEDED:
		icmp->code = ICMP_C_FRAG_NEEDED;
		icmp->info = bpf_htonl(mtu & 0xffff);
		break;
	case ANSWER_TIME_EXCEEDED:
		icmp->type = ICMP_N_TIME_EXCEEDED;
		break;
	default:
		icmp->code = ICMP_C_PORT;
	}
}

/* The ICMP sum covers no address. */
static __always_inline __u64 icmp_pseudo(const struct addr *saddr __attribute__((unused)),
					 const struct addr *daddr __attribute__((unused)),
					 __u16 len __attribute__((unused)))
{
	return 0;
}

static __always_inline __u64 icmp_addr_diff(__u64 addr_diff __attribute__((unused)))
{
	return 0;
}

/* IPv4 has ARP; see arp_look. */
static __always_inline void neighbour_look(ctx_t *ctx __attribute__((unused)),
					   const struct pkt *pkt __attribute__((unused)))
{
}

/* Reads a quoted IP header into the key of an answer to it: 0, or why not. */
static __always_inline int quote_ip(ctx_t *ctx, struct icmp_quote *q)
{
	struct iphdr ip;

	if (hook_load(ctx, q->ip, &ip, sizeof(ip)))
		return -DROP_ICMP_INNER;
	if (ip.version != 4 || ip.ihl < 5 || (ip.frag_off & bpf_htons(IP_OFFSET)))
		return -DROP_ICMP_INNER;
	if (bpf_ntohs(ip.tot_len) < ip.ihl * 4 + ICMP_QUOTE_MIN)
		return -DROP_ICMP_INNER; /* nobody has sent that */
	q->l4 = q->ip + ip.ihl * 4;
	q->ip_sum = ip.check;
	q->key.saddr.word[0] = ip.daddr;
	q->key.daddr.word[0] = ip.saddr;
	q->key.proto = ip.protocol;
	return 0;
}

/* Is the quoted header's own sum right (RFC 5508, REQ-3)? */
static __always_inline bool quote_ip_right(ctx_t *ctx, const struct icmp_quote *q)
{
	return sum_right(ctx, q->ip, q->l4 - q->ip, 0);
}

/* Rewrites the quoted header. Its sum takes back what its addresses change. */
static __always_inline int quote_ip_rewrite(ctx_t *ctx, const struct icmp_quote *q,
					    const struct flow *flow, __u64 addr_diff, __u64 *diff)
{
	__u16 sum = ~csum_fold((__u64)(__u16)~q->ip_sum + addr_diff);

	(void)diff;
	if (hook_store(ctx, q->ip + offsetof(struct iphdr, check), &sum, sizeof(sum)) ||
	    hook_store(ctx, q->ip + offsetof(struct iphdr, saddr), &flow->daddr,
		       sizeof(flow->daddr)) ||
	    hook_store(ctx, q->ip + offsetof(struct iphdr, daddr), &flow->saddr,
		       sizeof(flow->saddr)))
		return -DROP_INTERNAL;
	return 0;
}
