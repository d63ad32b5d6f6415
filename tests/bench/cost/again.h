/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What both hooks' programs of this folder share. "again" gives the packet its headers
 * back, because BPF_PROG_TEST_RUN hands every repetition what the last one has left, and
 * goes on to the program under test.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define PORTS_OF_ONE 14 /* a client address has 2^14 ports */

#define HEADERS 54 /* Ethernet, IPv4 and TCP without options: nothing behind is written to */
#define SOURCE 26
#define PORT 34

/* What the packet is made of anew; the source is the first client's. */
__u8 original[HEADERS] __attribute__((aligned(8)));

/* How many clients take turns, less one: a power of two, less one. */
__u32 clients;

/* The last client, in a sequence that has every number of 32 bits once, and so every
 * number of fewer bits in its lowest ones, in no order that a cache could guess. */
__u32 last;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

/* Copies a word of the headers. Their words are those that programs read: what is written
 * in smaller ones the processor does not hand over to a load before it is in the cache, and
 * the program under test would have to wait for that. */
#define COPY(type, off) (*(type *)(packet + (off)) = *(const type *)(original + (off)))

static __always_inline void restore(void *packet)
{
	__u32 client, port;

	last = last * 1664525 + 1013904223;
	client = last & clients;
	port = bpf_ntohs(*(__be16 *)(original + PORT)) + (client & ((1 << PORTS_OF_ONE) - 1));
	COPY(__u32, 0);
	COPY(__u16, 4);
	COPY(__u32, 6);
	COPY(__u16, 10);
	COPY(__u16, 12);
#pragma unroll
	for (__u32 off = ETH_HLEN; off < HEADERS; off += sizeof(__u32))
		COPY(__u32, off);
	*(__be32 *)(packet + SOURCE) =
		bpf_htonl(bpf_ntohl(*(__be32 *)(original + SOURCE)) + (client >> PORTS_OF_ONE));
	*(__be16 *)(packet + PORT) = bpf_htons(port);
}

static __always_inline void swap(void *packet)
{
	__u16 *to = packet, *from = packet + ETH_ALEN, word;

#pragma unroll
	for (int i = 0; i < ETH_ALEN / 2; i++) {
		word = to[i];
		to[i] = from[i];
		from[i] = word;
	}
}

char _license[] SEC("license") = "Dual BSD/GPL";
