//go:build ignore
#define ADDR_WORDS 1
#include "lib/lb.h"
SEC("xdp") int xdp_lb(struct xdp_md *ctx) { return ctx ? 2:0; }
SEC("xdp") int xdp_pass(struct xdp_md *ctx) { return ctx ? 2:0; }
