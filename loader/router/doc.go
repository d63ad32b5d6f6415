// Package router makes routers and their floating IPs real on this machine. A [Node] is
// told what a router shall look like ([Node.Apply]) and compares, repairs, or removes, in
// the manner of package loader, whose means it shares.
package router
