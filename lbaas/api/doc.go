// Package api serves the load balancing service over HTTP as clients of
// OpenStack Neutron (LBaaS v1) expect it: paths, envelopes, status codes, errors,
// filters, fields, sorting and pages. New makes the handler, Listen puts it at a
// unix socket or a loopback port and finds out who calls.
//
// It knows HTTP and package lbaas, nothing of the store and the kernel. All rules
// about objects are in package lbaas; this one has those about requests.
//
// # Why it is as it is
//
// Collections are served from one table: a further collection is one row there
// and one in package lbaas.
//
// JSON is read more strictly than encoding/json does it, see decode. Its own
// limits bound what a request can cost: 1 MiB of body, 16 levels, no compressed
// bodies, 64 requests at work at a time and 512 connections per listener. A slot
// is taken only when a body has been read, and given back before the answer is
// written, so that slow clients hold up nobody; what waits too long for one is
// answered with 429.
//
// The unix socket's rights say who may use it: whoever opens it is administrator.
// It appears at its path only after it has got its owner and mode. On loopback
// every local user and every web page in a local browser can connect. So a token
// is needed there (or the explicit word that none is), and requests of other
// origins or to other host names are refused. Other addresses are refused until
// there is TLS. Metrics and status show all projects, and so are for
// administrators.
//
// An unknown path is answered with a plain 404, as the original did; what is
// wrong with a request to a known one has the NeutronError envelope.
package api
