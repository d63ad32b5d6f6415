//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The least that a balancer on our hooks could do: one client, one rewrite per direction,
 * all of it constants. No table is looked up, nothing is counted, nothing is checked but
 * what the verifier wants. Timestamps and ports stay as they are. Of the two members one
 * bit of the client's port chooses, so that it can be compared with who serves both.
 */
#include <stddef.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct peer {
	__be32 addr;
	__u16 mac[ETH_ALEN / 2];
	__u16 pad;
};

const volatile struct peer vip;
const volatile struct peer client;
const volatile struct peer members[2];
/* The device that packets leave by. */
const volatile __u32 device;

/* Chooses clients' ports apart: a kernel gives out every other port only. */
#define MEMBER_BIT 2

struct headers {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;
};

static __always_inline bool parse(void *data, void *end, struct headers *h)
{
	h->eth = data;
	h->ip = data + sizeof(*h->eth);
	h->tcp = (void *)(h->ip + 1);
	return (void *)(h->tcp + 1) <= end && h->eth->h_proto == bpf_htons(ETH_P_IP) &&
	       h->ip->protocol == IPPROTO_TCP && h->ip->ihl == 5 && h->ip->daddr == vip.addr;
}

/* Whom the packet is for; NULL if it is none of ours. */
static __always_inline const volatile struct peer *receiver(const struct headers *h)
{
	if (h->ip->saddr == client.addr)
		return h->tcp->source & bpf_htons(MEMBER_BIT) ? &members[1] : &members[0];
	if (h->ip->saddr == members[0].addr || h->ip->saddr == members[1].addr)
		return &client;
	return NULL;
}

static __always_inline __u64 changed(const struct headers *h, __be32 to)
{
	/* From whomever to the VIP becomes from the VIP to the receiver. */
	return (__u64)(__u32)~h->ip->saddr + (__u64)to;
}

static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u16 add(__u16 check, __u32 diff)
{
	__u32 sum = (__u16)~check + (diff & 0xffff) + (diff >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline void rewrite(struct headers *h, const volatile struct peer *to, __u32 diff)
{
	h->ip->check = add(h->ip->check, diff);
	h->ip->saddr = vip.addr;
	h->ip->daddr = to->addr;
#pragma unroll
	for (int i = 0; i < ETH_ALEN / 2; i++) {
		((__u16 *)h->eth->h_source)[i] = vip.mac[i];
		((__u16 *)h->eth->h_dest)[i] = to->mac[i];
	}
}

static __always_inline int on_skb(struct __sk_buff *skb, __u64 flags)
{
	const volatile struct peer *to;
	struct headers h;
	__u32 diff;

	if (!parse((void *)(long)skb->data, (void *)(long)skb->data_end, &h))
		return TC_ACT_UNSPEC;
	to = receiver(&h);
	if (!to)
		return TC_ACT_UNSPEC;
	diff = fold32(changed(&h, to->addr));
	if (bpf_l4_csum_replace(skb,
				ETH_HLEN + sizeof(struct iphdr) + offsetof(struct tcphdr, check), 0,
				diff, BPF_F_PSEUDO_HDR))
		return TC_ACT_SHOT;
	if (!parse((void *)(long)skb->data, (void *)(long)skb->data_end, &h))
		return TC_ACT_SHOT;
	rewrite(&h, to, diff);
	return bpf_redirect(device, flags);
}

/* On the ingress of the namespace's device. */
SEC("tcx/ingress")
int floor_inside(struct __sk_buff *skb)
{
	return on_skb(skb, 0);
}

/* On the egress of the bridge's port, back into the bridge as if the namespace had sent it. */
SEC("tcx/egress")
int floor_outside(struct __sk_buff *skb)
{
	return on_skb(skb, BPF_F_INGRESS);
}

SEC("xdp")
int floor_xdp(struct xdp_md *ctx)
{
	const volatile struct peer *to;
	struct headers h;
	__u32 diff;

	if (!parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &h))
		return XDP_PASS;
	to = receiver(&h);
	if (!to)
		return XDP_PASS;
	diff = fold32(changed(&h, to->addr));
	h.tcp->check = add(h.tcp->check, diff);
	rewrite(&h, to, diff);
	return XDP_TX;
}

/* On the peer of a device with floor_xdp, which is thereby made to take what that sends. */
SEC("xdp")
int floor_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}
