package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"runtime/debug"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"qlbaas/lbaas"
)

// damageError carries what bbolt did not survive, as a panic value and as an error.
type damageError struct{ cause any }

func (e *damageError) Error() string { return fmt.Sprintf("%s: %v", lbaas.ErrStoreDamaged, e.cause) }

func (e *damageError) Unwrap() error { return lbaas.ErrStoreDamaged }

// guard runs fn, which calls into bbolt, and turns its panics and its reads
// outside of the file into a damageError.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = &damageError{cause}
		}
	}()
	return fn()
}

// View implements lbaas.Store.
func (s *Store) View(ctx context.Context, fn func(tx lbaas.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	return s.read(fn)
}

// Update implements lbaas.Store.
func (s *Store) Update(ctx context.Context, fn func(tx lbaas.Tx) error) error {
	if s.readOnly {
		return fmt.Errorf("change the store: %w", lbaas.ErrStoreReadOnly)
	}
	select {
	case s.writer <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the store: %w", ctx.Err())
	}
	defer func() { <-s.writer }()
	if damage := s.damage.Load(); damage != nil {
		return fmt.Errorf("change the store: %w", damage)
	}
	if err := s.write(fn); err != nil {
		return err
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

func (s *Store) read(fn func(tx lbaas.Tx) error) error {
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer s.rollback(tx)
	return s.run(tx, fn)
}

func (s *Store) write(fn func(tx lbaas.Tx) error) error {
	tx, err := s.begin(true)
	if err != nil {
		return err
	}
	defer s.rollback(tx)
	if err := s.run(tx, fn); err != nil {
		return err
	}
	before := tx.ID() - 1
	err = s.guarded(tx.Commit)
	if err == nil || errors.Is(err, lbaas.ErrStoreDamaged) {
		return err
	}
	return s.explain(err, uint64(before))
}

// explain says what a failed commit means: the state before had the given
// transaction number.
func (s *Store) explain(cause error, before uint64) error {
	s.log.Error("commit failed", "path", s.path, "error", cause)
	now, err := s.begin(false)
	if err != nil {
		return errors.Join(lbaas.ErrUncertain, cause, err)
	}
	defer s.rollback(now)
	switch {
	case uint64(now.ID()) > before:
		return fmt.Errorf("%w: %w", lbaas.ErrUncertain, cause)
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", lbaas.ErrStoreFull, cause)
	}
	return fmt.Errorf("%w: %w", lbaas.ErrStoreWrite, cause)
}

// guarded is guard that remembers damage.
func (s *Store) guarded(fn func() error) error {
	err := guard(fn)
	var damage *damageError
	if errors.As(err, &damage) && s.damage.CompareAndSwap(nil, damage) {
		s.log.Error("the database is damaged, it takes no more changes", "path", s.path, "error", damage)
	}
	return err
}

func (s *Store) begin(writable bool) (tx *bbolt.Tx, err error) {
	err = s.guarded(func() (err error) {
		tx, err = s.db.Begin(writable)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	return tx, nil
}

// rollback ends a transaction that is not committed; it does nothing to others.
func (s *Store) rollback(tx *bbolt.Tx) {
	err := s.guarded(func() error {
		if err := tx.Rollback(); !errors.Is(err, berrors.ErrTxClosed) {
			return err
		}
		return nil
	})
	if err != nil {
		s.stuck.Store(true)
		s.log.Error("rollback failed", "path", s.path, "error", err)
	}
}

// run calls fn. Only damage is recovered: a fault of fn's own stays its own.
func (s *Store) run(tx *bbolt.Tx, fn func(tx lbaas.Tx) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			damage, ok := cause.(*damageError)
			if !ok {
				panic(cause)
			}
			err = fmt.Errorf("use the store: %w", damage)
		}
	}()
	return fn(&transaction{store: s, bolt: tx})
}

// transaction implements lbaas.Tx.
type transaction struct {
	store *Store
	bolt  *bbolt.Tx
}

// sumSize is the length of the checksum before every value.
const sumSize = 4

// sum covers bucket and key as well, so that a value in a wrong place is noticed.
func sum(bucket, key string, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	c := crc32.Update(0, table, []byte(bucket+"\x00"+key+"\x00"))
	return crc32.Update(c, table, value)
}

// open checks and strips the checksum of a stored value.
func open(bucket, key string, stored []byte) ([]byte, error) {
	if len(stored) < sumSize {
		return nil, fmt.Errorf("record %s/%s is too short", bucket, key)
	}
	value := stored[sumSize:]
	if binary.BigEndian.Uint32(stored) != sum(bucket, key, value) {
		return nil, fmt.Errorf("record %s/%s has a wrong checksum", bucket, key)
	}
	return value, nil
}

// must runs a step inside of bbolt; damage leaves it as a panic that run
// recovers, because iterators and getters have no error to return.
func (t *transaction) must(fn func() error) {
	err := t.store.guarded(fn)
	if err == nil {
		return
	}
	var damage *damageError
	if !errors.As(err, &damage) {
		damage = &damageError{err}
		if t.store.damage.CompareAndSwap(nil, damage) {
			t.store.log.Error("the database is damaged, it takes no more changes", "path", t.store.path, "error", damage)
		}
	}
	panic(damage)
}

// bucket returns nil for a bucket that is missing: a backup from before the
// service knew it. A writable store has all of them.
func (t *transaction) bucket(name string) *bbolt.Bucket {
	return t.bolt.Bucket([]byte(name))
}

// Get implements lbaas.Tx.
func (t *transaction) Get(bucket, key string) (value []byte) {
	t.must(func() (err error) {
		b := t.bucket(bucket)
		if b == nil {
			return nil
		}
		if stored := b.Get([]byte(key)); stored != nil {
			value, err = open(bucket, key, stored)
		}
		return err
	})
	return value
}

// Put implements lbaas.Tx.
func (t *transaction) Put(bucket, key string, value []byte) error {
	stored := binary.BigEndian.AppendUint32(make([]byte, 0, sumSize+len(value)), sum(bucket, key, value))
	stored = append(stored, value...)
	err := t.store.guarded(func() error { return t.bucket(bucket).Put([]byte(key), stored) })
	if err != nil {
		return fmt.Errorf("put %s/%s: %w", bucket, key, err)
	}
	return nil
}

// Delete implements lbaas.Tx.
func (t *transaction) Delete(bucket, key string) error {
	err := t.store.guarded(func() error { return t.bucket(bucket).Delete([]byte(key)) })
	if err != nil {
		return fmt.Errorf("delete %s/%s: %w", bucket, key, err)
	}
	return nil
}

// Scan implements lbaas.Tx.
func (t *transaction) Scan(bucket, prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		var cursor *bbolt.Cursor
		var k, value []byte
		step := func() (err error) {
			if cursor != nil {
				k, value = cursor.Next()
			} else if b := t.bucket(bucket); b != nil {
				cursor = b.Cursor()
				k, value = cursor.Seek([]byte(prefix))
			}
			if k == nil || !bytes.HasPrefix(k, []byte(prefix)) {
				k = nil
				return nil
			}
			value, err = open(bucket, string(k), value)
			return err
		}
		for t.must(step); k != nil; t.must(step) {
			if !yield(string(k), value) {
				return
			}
		}
	}
}
