//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include "again.h"

SEC("tc")
int again(struct __sk_buff *ctx)
{
	void *packet = (void *)(long)ctx->data;

	if (packet + HEADERS > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	restore(packet);
	bpf_tail_call(ctx, &under_test, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int macs(struct __sk_buff *ctx)
{
	void *packet = (void *)(long)ctx->data;

	if (packet + ETH_HLEN > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	swap(packet);
	return bpf_redirect(ctx->ifindex, 0);
}
