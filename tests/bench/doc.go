// Command bench measures the balancer against what else balances on Linux, and against the
// limit of each hook, and prints one table of figures and goals.
//
//	make bench                          everything, in less than 15 minutes
//	make bench QUICK=1                  one round of it, in less than 3: does it work?
//	make bench JSON=file                the table for programs, too
//	go run ./tests/bench -only traffic  one part of it (traffic, cost, pools)
//	go run ./tests/bench -only traffic -rows single,bulk
//	                                    some rows of it (single, many, bulk, anew, two, least, long)
//	go run ./tests/bench -v             says what it measures while it does
//
// It needs root and what `make deps` installs: haproxy, nginx, wrk, nftables. Each part runs
// in a process and in namespaces of its own, which end with it.
//
// Goals are ratios of two figures measured seconds apart: of one round, and then the median
// over rounds. They are what we want, not what is checked: the exit code is 0 if everything
// could be measured. Notes that begin with DOUBTFUL name figures that must not be believed.
// Run it on a machine that does nothing else; "CPUs busy with other things" tells.
//
//	traffic  requests and bulk through HAProxy, nftables, bare rewrites and ours
//	cost     what programs cost per packet, without a network
//	pools    what a thousand idle pools take
//
// Sidecar and floating IPs have benchmarks of their own, l7 and those of package
// loader/router, which `make bench` runs after this one.
package main
