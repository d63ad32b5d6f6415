// Package demo plays a load balancer's life on real packets and checks what it
// sees against the story, so that a newcomer and a build machine learn the same
// thing from one command.
//
//	demo-client ── demo-router ── br-lb (on demo-node) ─┬─ demo-web1   WEB1
//	10.10.10.4          .1 │ 172.16.100.1               ├─ demo-web2   WEB2
//	                                                    ├─ demo-web3   WEB3
//	                                                    └─ qlbaas-<pool id>: 172.16.100.11
//
// Every host is a network namespace, in sight of `ip netns`. The agent is the
// running binary itself, started as a process of its own on demo-node with its own
// directories below /run/qlbaas-demo; the balancer's namespace is the agent's work.
// The demo speaks to it as a user does, by command line (printed as executed), and
// looks at its outcome as an onlooker does: packets, namespaces, pinned maps. It
// imports no other room but the laboratory. Nothing needs to be installed: web
// servers and clients are commands of this package.
//
// The chapters are one file each, or a few: a chapter does something, tells what
// is seen, and returns an error where that differs from the story. Waiting is
// always for something to happen, never for time to pass, and has a bound; where
// the product promises one, that is the bound and crossing it is an error.
//
// # Cleaning up
//
// The directory is made before the first namespace and removed after the last one:
// as long as it is there, something may have been left, and every name in it is
// known (see clean). Without it nothing of the name demo-… is ours, and nothing is
// touched. So a demo that was killed is cleaned up by the next one.
//
// Why one demo at a time, by an abstract socket: names are fixed so that people can
// type them; and that lock ends with its process and leaves no file.
package demo
