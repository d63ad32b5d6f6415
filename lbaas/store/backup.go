package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"qlbaas/lbaas"
)

// maxRestless is how many quiet times a busy store may go without a backup.
const maxRestless = 10

// KeepBackup makes a backup each time that changes have been followed by a quiet
// time, or have not stopped for ten of them, and one when ctx ends. A backup that fails
// is logged and tried again after the next change.
func (s *Store) KeepBackup(ctx context.Context, quiet time.Duration) {
	if s.readOnly {
		return
	}
	// What was begun is brought to an end, and the last change gets its copy: only who
	// kills the process goes without.
	whole := context.WithoutCancel(ctx)
	s.backupIfNew(whole, false)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.changed:
			s.calm(ctx, quiet)
			s.backupIfNew(whole, true)
		}
	}
	select {
	case <-s.changed:
		s.backupIfNew(whole, true)
	default:
	}
}

// calm waits for the quiet time, or for ctx.
func (s *Store) calm(ctx context.Context, quiet time.Duration) {
	latest := time.NewTimer(maxRestless * quiet)
	defer latest.Stop()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-latest.C:
			return
		case <-s.changed:
			timer.Reset(quiet)
		}
	}
}

// backupIfNew spares the disk when only statuses have changed, and spares a
// backup that is ahead of the database until the database is used.
func (s *Store) backupIfNew(ctx context.Context, changed bool) {
	var revision uint64
	err := s.View(ctx, func(tx lbaas.Tx) (err error) {
		revision, err = lbaas.Revision(tx)
		return err
	})
	s.backupMu.Lock()
	old := s.backedUp == revision
	s.backupMu.Unlock()
	if err == nil && !old && (changed || !s.info.Older) {
		err = s.Backup(ctx)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Error("backup failed, the last one stays", "path", s.BackupPath(), "error", err)
	}
}

// Backup writes a copy of the current state beside the database, checks it, and
// lets it take the last one's place. Whatever goes wrong, the last one stays. A
// last one that is ahead of the database is kept under its name + ".old".
func (s *Store) Backup(ctx context.Context) error {
	s.backupMu.Lock()
	defer s.backupMu.Unlock()
	tmp := s.BackupPath() + ".new"
	defer os.Remove(tmp)
	if err := s.copyTo(ctx, tmp); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	revision, err := revisionOf(tmp)
	if err != nil {
		return fmt.Errorf("check backup: %w", err)
	}
	if s.backedUp > revision {
		if err := os.Rename(s.BackupPath(), s.BackupPath()+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the backup that is ahead: %w", err)
		}
	}
	if err := os.Rename(tmp, s.BackupPath()); err != nil {
		return fmt.Errorf("keep backup: %w", err)
	}
	if err := syncDir(filepath.Dir(s.path)); err != nil {
		return fmt.Errorf("keep backup: %w", err)
	}
	s.backedUp = revision
	return nil
}

func (s *Store) copyTo(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = s.View(ctx, func(tx lbaas.Tx) error {
		_, err := tx.(*transaction).bolt.WriteTo(f)
		return err
	})
	return errors.Join(err, f.Sync(), f.Close())
}

// readBackup returns the revision of the last backup, 0 if it can't be read.
func (s *Store) readBackup() uint64 {
	revision, err := revisionOf(s.BackupPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("the backup cannot be read", "path", s.BackupPath(), "error", err)
	}
	return revision
}

func revisionOf(path string) (uint64, error) {
	copied, err := Open(path, Options{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	return copied.info.Revision, copied.Close()
}

// Export writes all records as one JSON object: schema, revision, and the
// buckets with their records by key. It is for people and for other programs;
// it shows one state of the store.
func (s *Store) Export(ctx context.Context, w io.Writer) error {
	export := struct {
		Schema   int                                   `json:"schema"`
		Revision uint64                                `json:"revision"`
		Buckets  map[string]map[string]json.RawMessage `json:"buckets"`
	}{Schema: schema, Buckets: map[string]map[string]json.RawMessage{}}
	err := s.View(ctx, func(tx lbaas.Tx) (err error) {
		for _, bucket := range lbaas.Buckets() {
			records := map[string]json.RawMessage{}
			for key, value := range tx.Scan(bucket, "") {
				records[key] = readable(value)
			}
			export.Buckets[bucket] = records
		}
		export.Revision, err = lbaas.Revision(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("export the store: %w", err)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(export); err != nil {
		return fmt.Errorf("export the store: %w", err)
	}
	return nil
}

// readable returns JSON as it is, and the bare ids of indexes as strings.
func readable(value []byte) json.RawMessage {
	if json.Valid(value) {
		return append(json.RawMessage(nil), value...)
	}
	text, _ := json.Marshal(string(value)) // a string always encodes
	return text
}

var _ lbaas.Store = (*Store)(nil)
