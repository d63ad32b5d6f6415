//go:build ignore
#define ADDR_WORDS 1
#include "lib/tap_lb.h"
