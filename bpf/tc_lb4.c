//go:build ignore
#define ADDR_WORDS 1
#include "lib/lb.h"
SEC("tc") int tc_lb(struct __sk_buff *ctx) { return ctx ? -1:0; }
SEC("syscall") int sweep_ports(struct sweep *args) { return args?pool_number:0; }
