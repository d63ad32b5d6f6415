/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What every program includes first: the kernel's words, ours, and the maps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"
#include "maps.h"
#include "export.h"
#include "csum.h"

char _license[] SEC("license") = "Dual BSD/GPL";
