//go:build ignore
#define ADDR_WORDS 1
#include "lib/tc_fip.h"
