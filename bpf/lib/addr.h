/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* An address of the object's family: 4 bytes for IPv4, 16 for IPv6. */
#pragma once

struct addr {
	__be32 word[ADDR_WORDS];
};
