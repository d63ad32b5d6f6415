// Command l7 compares what a request costs in the sidecar of cookie pools, in HAProxy
// and in nginx: the proxy's processor time per request, all three side by side in one
// network, with the same clients and the same members.
//
//	wrk 10.1.0.2 ── 10.1.0.1 proxies 10.2.0.1 ── 10.2.0.10, .11 nginx as members
//
// Every proxy has one thread of work, reads a cookie, adds X-Forwarded-For, and gives
// new clients a cookie. HAProxy runs in mode http with
// `cookie SRV insert indirect nocache`, and copies bodies unless -splice is given. nginx
// has no cookie persistence of its own: it chooses by a map of the cookie's value and
// lets the cookie through, which is less work.
//
// Other things run on the machine, and clocks change. So each figure is the median, over
// rounds, of the ratio of two measurements made seconds apart; the order of the proxies
// changes from round to round. The column "rounds" tells how far rounds differ.
//
//	go run ./tests/bench/l7 [-rounds 7] [-seconds 2] [-procs 1] [-splice] [-json]
//
// It needs root, haproxy, nginx and wrk, and runs in namespaces of its own.
package main
