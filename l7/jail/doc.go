// Package jail takes from the process what a sidecar has no use for: it reads what
// strangers send, so nothing that it could be made to do may reach further than its
// connections.
//
// The process must already be one of an ordinary user without capabilities: its starter
// has to see to that. From [Enter] on it cannot gain privileges by executing anything,
// and can call only what [allowed] lists: sockets of IPv4 and IPv6, threads, memory, time.
// There is no open, no exec, no bpf, no unix socket, no signal to anybody else; those fail
// with EPERM. There is no way back.
package jail
