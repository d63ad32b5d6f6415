// Package agent is the daemon: it joins the node's data plane (loader), the
// store, the service, the reconciler, the health checker and the API, and takes
// them apart again in order. It decides nothing about balancers.
//
// # Order
//
// Start: the node is opened first, because it holds the lock that keeps a second
// agent away; then the store; the keeper of sidecars, which adopts those that run; the
// service over the store; and the reconciler, which
// adopts what is deployed before it returns. Only then do the listeners open and
// is the service manager told that the agent is ready: what the API shows is
// true from the first answer on.
//
// Stop (SIGTERM, SIGINT): listeners, checker, reconciler, keeper, store, node. The data
// plane is left alone, and so are the sidecars; they forward without the agent.
//
// # When the store cannot be believed
//
// A new, empty or older database beside deployed balancers means that the
// database was lost, not that everybody deleted everything: the agent refuses to
// start until the file is back or the operator says --accept-empty. A damaged
// database is replaced by its backup, read-only: members go on being probed, the
// API answers questions and refuses changes, and nothing on the node is applied
// or removed. In every case what is deployed goes on forwarding.
//
// # Why the budget looks at control groups
//
// The memory of BPF maps is charged to the control group of the process that
// made them. A budget above that group's limit would get the agent killed by the
// first flood, so a percentage is taken of what the group may have, and a larger
// number of bytes is refused.
package agent
