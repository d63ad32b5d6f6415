// Package cost measures what the balancer's programs cost per packet, without any network:
// by BPF_PROG_TEST_RUN, as ratios to a program that only swaps the MAC addresses and sends
// the frame back on the same hook, in the same run. Beside that, what a choice by
// LEAST_CONNECTIONS costs, how many packets a core forwards on XDP, and what a million
// connections take of the kernel's memory.
//
// # How a cost is found
//
// That call gives each repetition the packet as the last one has left it, so that with
// nothing else only the first one would be what it says. Here a program ("again", again.h)
// restores the packet, for the next client if there are several, and goes on to the
// program under test by a tail call. What it costs itself is how much dearer the MAC swap is
// with it than alone, and is taken off:
//
//	cost = (again + program) - ((again + MAC swap) - MAC swap)
//
// The kernel's own work for a repetition stays in both numbers of a ratio.
//
// Pools are deployed by package loader, connections are made by the three packets of
// their handshakes, and what a run says to be is held against the pool's counters.
package cost

//go:generate go tool bpf2go -output-stem xdp -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I../../../bpf/include -I/usr/include/x86_64-linux-gnu" xdp xdp.c
//go:generate go tool bpf2go -output-stem tc -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I../../../bpf/include -I/usr/include/x86_64-linux-gnu" tc tc.c
