package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"qlbaas/lbaas"
)

// check reads every page and every value. The walk comes first and in this
// goroutine: it stops at pages that lead outside of the file, which bbolt's own
// check, in a goroutine of its own, would not survive.
func (s *Store) check() error {
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer s.rollback(tx)
	if err := s.guarded(func() error { return walk(tx) }); err != nil {
		return asDamage(err)
	}
	var found []error
	for err := range tx.Check() {
		if len(found) < 3 {
			found = append(found, err)
		}
	}
	if len(found) > 0 {
		return asDamage(errors.Join(found...))
	}
	return nil
}

func asDamage(err error) error {
	if errors.Is(err, lbaas.ErrStoreDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", lbaas.ErrStoreDamaged, err)
}

// walk reads every value of the service's buckets and compares its checksum.
func walk(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if b == nil {
			return fmt.Errorf("%q is not a bucket", name)
		}
		return b.ForEach(func(k, v []byte) error {
			if string(name) == bucketStore {
				return nil
			}
			_, err := open(string(name), string(k), v)
			return err
		})
	})
}

// Check reads the whole database and compares it with its checksums and its own
// structure. The error is lbaas.ErrStoreDamaged.
func (s *Store) Check() error { return s.check() }
