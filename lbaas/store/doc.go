// Package store keeps the records of the load balancing service in one bbolt
// file, and answers for them: what Update has answered with nil survives a kill
// and a power cut, what is damaged is noticed and never served as something else.
//
// It may touch the database file, its backup beside it (".bak") and their
// directory. It knows nothing of pools and VIPs beyond the names of the buckets,
// and never talks to the kernel or the network.
//
// # Why it is as it is
//
// An empty database looks to a reconciler like "remove everything". A file that
// is missing, empty or older than its own backup is therefore opened, but Info
// says so, and the agent refuses to act on it while balancers are deployed
// unless it was told to accept that.
//
// bbolt checks its meta pages but not its data. It meets a damaged page with a
// panic, with a fault when a page number leads outside of the file, or by asking
// for all memory. So checkPages walks the file at open before bbolt sees it, then
// bbolt's own check follows; every value carries a checksum over bucket, key and
// bytes; and all calls into bbolt run with faults turned into panics, and panics
// into errors that are lbaas.ErrStoreDamaged. A damaged store takes no changes.
//
// After a commit that the disk refused, the transaction number tells whether the
// new state became visible. If not, nothing has changed, and the next commit may
// work again (space was freed, the disk is back). If it did, only its durability
// is unknown: lbaas.ErrUncertain. The next successful commit makes it durable,
// because bbolt had already synced what it consists of.
//
// The writer's turn is waited for with the caller's context. A commit that has
// begun is not abandoned: nobody could tell the caller how it ended.
package store
