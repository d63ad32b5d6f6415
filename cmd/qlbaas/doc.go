// Command qlbaas is the whole product in one binary: the agent, a daemon that
// makes load balancers of this node real, and the commands that talk to it.
//
// This package only joins: package agent wires the daemon, package client speaks
// to it, package cmdline holds what all commands share. main is the only place
// that ends the process.
package main
