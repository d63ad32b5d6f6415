package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"qlbaas/lbaas"
)

// Errors of Open that callers can tell apart.
var (
	// ErrLocked: another process has the database open; the text names it.
	ErrLocked = errors.New("locked by another process")
	// ErrNewer: a newer version of the program has written the database.
	ErrNewer = errors.New("written by a newer version")
)

// schema numbers the layout of buckets and records.
const schema = 1

// bucketStore holds what belongs to the file and not to the service.
const bucketStore = "store"

// mapSize is the initial memory map. It is larger than any expected database,
// so that growing does not have to wait for readers; it takes address space only.
const mapSize = 64 << 20

// growSize is by how much the file grows at a time.
const growSize = 1 << 20

// Options configures Open; the zero value is fine.
type Options struct {
	// ReadOnly opens the file for reading; Update answers lbaas.ErrStoreReadOnly.
	// It is meant for the backup.
	ReadOnly bool
	// LockTimeout bounds the wait for another process to close the file; zero
	// means half a second: a second agent shall be told so within one.
	LockTimeout time.Duration
	Log         *slog.Logger
}

// Info says what Open found.
type Info struct {
	// Fresh: nothing has ever been created here. The file was missing or empty, or
	// has not been used.
	Fresh bool
	// Older: the backup beside the file has seen changes that the file has not, so
	// that the file must be an older copy (or a new one).
	Older bool
	// Revision counts the changes by users; BackupRevision is the backup's, 0 if
	// there is no readable backup.
	Revision, BackupRevision uint64
}

// Store implements lbaas.Store on one file. Close it once; it is safe for
// concurrent use otherwise.
type Store struct {
	path     string
	readOnly bool
	log      *slog.Logger
	db       *bbolt.DB
	file     *os.File
	info     Info

	// writer holds one token: whoever put it there may write.
	writer chan struct{}
	// changed wakes up KeepBackup.
	changed chan struct{}
	// damage is the first sign of a damaged file, nil while there is none.
	damage atomic.Pointer[damageError]
	// stuck is set when bbolt could not even end a transaction: its locks may be
	// held for ever.
	stuck     atomic.Bool
	backupMu  sync.Mutex
	backedUp  uint64
	closeOnce sync.Once
	closeErr  error
}

// Open opens the database file at path, and makes it (mode 0600) if it is
// missing. It reads and checks the whole file. Errors: ErrLocked, ErrNewer,
// lbaas.ErrStoreDamaged, and those of the file system.
func Open(path string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second / 2
	}
	if !o.ReadOnly {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("create database %s: %w", path, err)
		}
	}
	s := &Store{
		path: path, readOnly: o.ReadOnly, log: o.Log,
		writer: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	if err := s.open(o.LockTimeout); err != nil {
		s.closeFile()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if !o.ReadOnly {
		s.info.BackupRevision = s.readBackup()
		s.backedUp = s.info.BackupRevision
		s.info.Older = s.info.Revision < s.info.BackupRevision
	}
	return s, nil
}

// Info returns what Open found.
func (s *Store) Info() Info { return s.info }

// BackupPath is where Backup puts the copy.
func (s *Store) BackupPath() string { return BackupPath(s.path) }

// BackupPath is where the backup of the database at path is.
func BackupPath(path string) string { return path + ".bak" }

// create makes an initialised database appear at path in one step, so that a
// crash never leaves half a file. An existing file is left alone, but for its
// mode: it holds nothing for other users.
func create(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case err == nil && info.Mode().Perm()&0o077 != 0:
		return os.Chmod(path, 0o600)
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(tmp.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Sync(), db.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces what another process has just made.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) open(timeout time.Duration) error {
	opts := &bbolt.Options{
		Timeout: timeout, ReadOnly: s.readOnly, PreLoadFreelist: true,
		FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapSize,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if s.file == nil {
				s.file = f
			}
			return f, err
		},
	}
	if err := s.examine(timeout); err != nil {
		return err
	}
	err := guard(func() (err error) {
		if s.db, err = bbolt.Open(s.path, 0o600, opts); err == nil {
			s.db.AllocSize = growSize
		}
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return lockedError(s.path)
	case errors.As(err, new(syscall.Errno)):
		return err
	case err != nil:
		// What is not the file system's refusal is bbolt's: it can't read the file.
		return asDamage(err)
	}
	// The check comes before the first write: a write could make damage worse.
	if err := s.check(); err != nil {
		return err
	}
	if !s.readOnly {
		if err := s.prepare(); err != nil {
			return err
		}
	}
	return s.inspect()
}

// examine looks at the file before bbolt does, while no other process writes it.
func (s *Store) examine(timeout time.Duration) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f, !s.readOnly, timeout); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 && !s.readOnly {
		return err // bbolt makes a database of an empty file
	}
	if err := checkPages(f, info.Size()); err != nil {
		return asDamage(err)
	}
	return nil
}

// prepare makes the buckets that are missing, in a new file all of them.
func (s *Store) prepare() error {
	return guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucketStore))
			if err != nil {
				return err
			}
			key := []byte("schema")
			switch raw := b.Get(key); {
			case raw == nil:
				err = b.Put(key, binary.BigEndian.AppendUint32(nil, schema))
			case len(raw) != 4:
				err = fmt.Errorf("%w: no schema number", lbaas.ErrStoreDamaged)
			case binary.BigEndian.Uint32(raw) > schema:
				err = fmt.Errorf("%w: schema %d, this one knows %d", ErrNewer, binary.BigEndian.Uint32(raw), schema)
			}
			if err != nil {
				return err
			}
			for _, name := range lbaas.Buckets() {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// inspect fills in what Info says of the file itself.
func (s *Store) inspect() error {
	return s.read(func(tx lbaas.Tx) error {
		raw := tx.(*transaction).bolt.Bucket([]byte(bucketStore))
		if raw == nil || !bytes.Equal(raw.Get([]byte("schema")), binary.BigEndian.AppendUint32(nil, schema)) {
			return fmt.Errorf("%w: no schema number that this version knows", lbaas.ErrStoreDamaged)
		}
		var err error
		s.info.Revision, err = lbaas.Revision(tx)
		s.info.Fresh = s.info.Revision == 0
		return err
	})
}

// Close ends the use of the file. Transactions must have ended.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		if s.stuck.Load() {
			s.closeFile()
			s.closeErr = fmt.Errorf("close database %s: %w", s.path, lbaas.ErrStoreDamaged)
			return
		}
		s.closeErr = guard(s.db.Close)
	})
	return s.closeErr
}

// closeFile gives up the lock on the file when bbolt can no longer do so. The
// lock goes explicitly: a memory map that bbolt left behind would keep it.
func (s *Store) closeFile() {
	if s.db != nil && !s.stuck.Load() {
		_ = guard(s.db.Close)
	}
	if s.file != nil {
		_ = unix.Flock(int(s.file.Fd()), unix.LOCK_UN)
		_ = s.file.Close()
	}
}
