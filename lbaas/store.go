package lbaas

import (
	"context"
	"errors"
	"iter"
)

// Store keeps records durably. Package store implements it; another one may
// share the records between several nodes.
//
// Implementations are safe for concurrent use, and their transactions are
// serializable.
type Store interface {
	// View runs fn on one consistent state. fn must not keep tx or bytes it got.
	View(ctx context.Context, fn func(tx Tx) error) error
	// Update runs fn and makes what it did durable before it returns nil. When fn
	// or the commit fails, nothing has changed, unless the error is ErrUncertain.
	// Waiting for other writers ends with ctx; a commit that has begun does not.
	Update(ctx context.Context, fn func(tx Tx) error) error
}

// Tx is a transaction of a Store. Keys within a bucket are ordered bytewise.
type Tx interface {
	// Get returns nil when there is no such record, and an empty slice for an empty
	// one. The bytes are read-only and valid until the transaction ends.
	Get(bucket, key string) []byte
	// Put must not be called in a View.
	Put(bucket, key string, value []byte) error
	// Delete of a missing record is nil. It must not be called in a View.
	Delete(bucket, key string) error
	// Scan yields the records whose key begins with prefix, in order. The bucket
	// must not be changed during the scan.
	Scan(bucket, prefix string) iter.Seq2[string, []byte]
}

// Errors of a Store that the service tells its callers apart.
var (
	// ErrStoreFull: there is no space left for a change; nothing was changed.
	ErrStoreFull = errors.New("no space left in the store")
	// ErrStoreReadOnly: the store serves a backup and takes no changes.
	ErrStoreReadOnly = errors.New("the store is read-only")
	// ErrStoreWrite: the disk refused the change; nothing was changed.
	ErrStoreWrite = errors.New("the change could not be stored")
	// ErrUncertain: the disk failed at the very end of the commit; the change is
	// visible now but may be gone after a restart.
	ErrUncertain = errors.New("it is not known whether the change was stored")
	// ErrStoreDamaged: the records cannot be read.
	ErrStoreDamaged = errors.New("the store is damaged")
)
