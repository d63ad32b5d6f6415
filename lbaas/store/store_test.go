package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"qlbaas/lbaas"
	"qlbaas/tests/bubble"
)

// Two of the service's buckets serve the tests.
const (
	pools = "pools"
	vips  = "vips"
)

func open1(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "state", "qlbaas.db") }

// put stores one record and counts a change, as the service does.
func put(t testing.TB, s *Store, bucket, key, value string) {
	t.Helper()
	if err := s.Update(context.Background(), func(tx lbaas.Tx) error { return putIn(tx, bucket, key, value) }); err != nil {
		t.Fatal(err)
	}
}

func putIn(tx lbaas.Tx, bucket, key, value string) error {
	n, err := lbaas.Revision(tx)
	if err != nil {
		return err
	}
	if err := tx.Put("meta", "revision", fmt.Append(nil, n+1)); err != nil {
		return err
	}
	return tx.Put(bucket, key, []byte(value))
}

func get(t testing.TB, s *Store, bucket, key string) string {
	t.Helper()
	value := "(none)"
	err := s.View(context.Background(), func(tx lbaas.Tx) error {
		if raw := tx.Get(bucket, key); raw != nil {
			value = string(raw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestReopen(t *testing.T) {
	path := dbPath(t)
	s := open1(t, path)
	if info := s.Info(); info != (Info{Fresh: true}) {
		t.Errorf("new database: %+v", info)
	}
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", stat.Mode(), err)
	}
	put(t, s, pools, "a", "one")
	put(t, s, pools, "b", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s = open1(t, path)
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v after it was opened to everybody", stat.Mode(), err)
	}
	if info := s.Info(); info != (Info{Revision: 2}) {
		t.Errorf("used database: %+v", info)
	}
	if a, b, c := get(t, s, pools, "a"), get(t, s, pools, "b"), get(t, s, vips, "a"); a != "one" || b != "" || c != "(none)" {
		t.Errorf("records %q %q %q", a, b, c)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v %v", entries, err)
	}
}

func TestEmptyFileIsFresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qlbaas.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := open1(t, path); !s.Info().Fresh {
		t.Error("an empty file is not fresh")
	}
}

func TestFailedUpdateChangesNothing(t *testing.T) {
	s := open1(t, dbPath(t))
	put(t, s, pools, "a", "one")
	stop := errors.New("stop")
	err := s.Update(t.Context(), func(tx lbaas.Tx) error {
		if err := errors.Join(tx.Put(pools, "a", []byte("two")), tx.Delete(pools, "a"), tx.Put(vips, "b", nil)); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() {
			if cause := recover(); cause != "mine" {
				t.Errorf("recovered %v", cause)
			}
		}()
		_ = s.Update(t.Context(), func(tx lbaas.Tx) error {
			_ = tx.Put(pools, "a", []byte("three"))
			panic("mine")
		})
	}()
	if a, b := get(t, s, pools, "a"), get(t, s, vips, "b"); a != "one" || b != "(none)" {
		t.Errorf("records %q %q", a, b)
	}
	put(t, s, pools, "a", "four") // the writer's turn is free again
}

func TestLocked(t *testing.T) {
	path := dbPath(t)
	open1(t, path)
	_, err := Open(path, Options{LockTimeout: time.Millisecond})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d (", os.Getpid())) {
		t.Errorf("second open: %v, want ErrLocked naming process %d", err, os.Getpid())
	}
}

func TestWriterWaitsWithContext(t *testing.T) {
	s := open1(t, dbPath(t))
	err := s.Update(t.Context(), func(lbaas.Tx) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.Update(ctx, func(lbaas.Tx) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("second writer: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNewerSchema(t *testing.T) {
	path := dbPath(t)
	s := open1(t, path)
	err := s.Update(t.Context(), func(tx lbaas.Tx) error {
		return tx.(*transaction).bolt.Bucket([]byte(bucketStore)).Put([]byte("schema"), []byte{0, 0, 0, schema + 1})
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("open: %v", err)
	}
}

func TestNotAFile(t *testing.T) {
	if _, err := Open(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing, to read: %v", err)
	}
}

// TestModel compares with a map after random transactions, some of them failing.
func TestModel(t *testing.T) {
	s := open1(t, dbPath(t))
	model := map[string]string{}
	keys := rapid.SampledFrom([]string{"a", "a/", "a/1", "a/2", "b/1", "a/10", "z"})
	rapid.Check(t, func(t *rapid.T) {
		next := maps.Clone(model)
		fail := rapid.Bool().Draw(t, "fail")
		err := s.Update(context.Background(), func(tx lbaas.Tx) error {
			for range rapid.IntRange(1, 5).Draw(t, "steps") {
				key := keys.Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					delete(next, key)
					if err := tx.Delete(pools, key); err != nil {
						return err
					}
					continue
				}
				value := rapid.String().Draw(t, "value")
				next[key] = value
				if err := tx.Put(pools, key, []byte(value)); err != nil {
					return err
				}
			}
			compare(t, tx, next, keys.Draw(t, "prefix"))
			if fail {
				return errors.New("fail")
			}
			return nil
		})
		if (err != nil) != fail {
			t.Fatal(err)
		}
		if !fail {
			model = next
		}
		err = s.View(context.Background(), func(tx lbaas.Tx) error {
			compare(t, tx, model, "")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func compare(t *rapid.T, tx lbaas.Tx, want map[string]string, prefix string) {
	var got []string
	for key, value := range tx.Scan(pools, prefix) {
		if want[key] != string(value) || string(tx.Get(pools, key)) != want[key] {
			t.Fatalf("%s is %q, want %q", key, value, want[key])
		}
		got = append(got, key)
	}
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
	if !slices.Equal(got, keys) {
		t.Fatalf("keys with %q: %q, want %q", prefix, got, keys)
	}
}

func TestBackup(t *testing.T) {
	path := dbPath(t)
	s := open1(t, path)
	put(t, s, pools, "a", "one")
	if err := s.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, pools, "a", "two")
	copied, err := Open(s.BackupPath(), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, copied, pools, "a"); got != "one" {
		t.Errorf("backup has %q", got)
	}
	err = copied.Update(t.Context(), func(lbaas.Tx) error { return nil })
	if !errors.Is(err, lbaas.ErrStoreReadOnly) {
		t.Errorf("a change to the backup: %v", err)
	}
	if err := copied.Close(); err != nil {
		t.Error(err)
	}
	if stat, err := os.Stat(s.BackupPath()); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v %v", stat.Mode(), err)
	}
}

// TestOlder: a database that was lost, or replaced by an older copy, is told
// from one that is new, and its better backup is not overwritten.
func TestOlder(t *testing.T) {
	path := dbPath(t)
	s := open1(t, path)
	put(t, s, pools, "a", "one")
	put(t, s, pools, "b", "two")
	if err := errors.Join(s.Backup(t.Context()), s.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	s = open1(t, path)
	if info := s.Info(); info != (Info{Fresh: true, Older: true, BackupRevision: 2}) {
		t.Errorf("info %+v", info)
	}
	s.backupIfNew(t.Context(), false)
	if revision, err := revisionOf(s.BackupPath()); err != nil || revision != 2 {
		t.Errorf("the backup is now %d %v", revision, err)
	}
	put(t, s, pools, "c", "three")
	s.backupIfNew(t.Context(), true)
	for path, want := range map[string]uint64{s.BackupPath(): 1, s.BackupPath() + ".old": 2} {
		if revision, err := revisionOf(path); err != nil || revision != want {
			t.Errorf("%s has revision %d %v, want %d", path, revision, err, want)
		}
	}
}

// TestKeepBackup: the copy is made once it has been quiet, or after ten quiet
// times of unrest, and only when a user has changed something.
func TestKeepBackup(t *testing.T) {
	path := dbPath(t)
	synctest.Test(t, func(t *testing.T) {
		s := open1(t, path)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.KeepBackup(ctx, time.Minute)
			close(done)
		}()
		synctest.Wait()
		revision := func() uint64 { return s.readBackup() }
		put(t, s, pools, "a", "one")
		bubble.Pass(50 * time.Second)
		put(t, s, pools, "a", "two")
		bubble.Pass(50 * time.Second)
		if got := revision(); got != 0 {
			t.Errorf("backup of revision %d before it was quiet", got)
		}
		bubble.Pass(20 * time.Second)
		if got := revision(); got != 2 {
			t.Errorf("backup of revision %d, want 2", got)
		}
		for range 13 {
			put(t, s, pools, "a", "busy")
			bubble.Pass(50 * time.Second)
		}
		if got := revision(); got < 10 || got > 15 {
			t.Errorf("backup of revision %d after ten minutes of changes", got)
		}
		cancel()
		<-done
	})
}

// TestKeepBackupEnds: whenever the end comes, the last change has its copy by then.
func TestKeepBackupEnds(t *testing.T) {
	path := dbPath(t)
	want := func(t *testing.T, path string, revision uint64) {
		t.Helper()
		if got, err := revisionOf(path); err != nil || got != revision {
			t.Errorf("%s has revision %d %v, want %d", path, got, err, revision)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := open1(t, path)
		defer s.Close()
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.KeepBackup(ctx, time.Minute)
			close(done)
		}()
		put(t, s, pools, "a", "one")
		bubble.Pass(time.Second)
		put(t, s, pools, "a", "two")
		begin := time.Now()
		end()
		<-done
		want(t, s.BackupPath(), 2)
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("the end took %v", waited)
		}
	})
	s := open1(t, path)
	ended, end := context.WithCancel(t.Context())
	end()
	put(t, s, pools, "a", "three")
	s.KeepBackup(ended, time.Hour)
	want(t, s.BackupPath(), 3)
	// A database that was lost spares the better backup until it is used.
	if err := errors.Join(s.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	s = open1(t, path)
	s.KeepBackup(ended, time.Hour)
	want(t, s.BackupPath(), 3)
	put(t, s, pools, "b", "one")
	s.KeepBackup(ended, time.Hour)
	want(t, s.BackupPath(), 1)
	want(t, s.BackupPath()+".old", 3)
}

func TestExport(t *testing.T) {
	s := open1(t, dbPath(t))
	put(t, s, pools, "a", `{"name":"web"}`)
	put(t, s, vips, "index", "not JSON")
	var out strings.Builder
	if err := s.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema, Revision int
		Buckets          map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != schema || got.Revision != 2 || len(got.Buckets) != len(lbaas.Buckets()) ||
		got.Buckets[pools]["a"].(map[string]any)["name"] != "web" || got.Buckets[vips]["index"] != "not JSON" {
		t.Errorf("export: %s", out.String())
	}
}

// TestExplain: a failed commit whose state is not visible has changed nothing;
// one whose state is visible may not be durable.
func TestExplain(t *testing.T) {
	s := open1(t, dbPath(t))
	put(t, s, pools, "a", "one")
	tx, err := s.begin(false)
	if err != nil {
		t.Fatal(err)
	}
	now := uint64(tx.ID())
	s.rollback(tx)
	for _, c := range []struct {
		cause  error
		before uint64
		want   error
	}{
		{syscall.ENOSPC, now, lbaas.ErrStoreFull},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}, now, lbaas.ErrStoreFull},
		{syscall.EIO, now, lbaas.ErrStoreWrite},
		{syscall.EROFS, now, lbaas.ErrStoreWrite},
		{syscall.EIO, now - 1, lbaas.ErrUncertain},
	} {
		if err := s.explain(c.cause, c.before); !errors.Is(err, c.want) || !errors.Is(err, c.cause) {
			t.Errorf("%v before %d: %v, want %v", c.cause, c.before, err, c.want)
		}
	}
}

func TestLockedBy(t *testing.T) {
	locks := "1: POSIX  ADVISORY  WRITE 7 fe:00:5 0 EOF\n2: FLOCK  ADVISORY  WRITE 1234 fe:00:5 0 EOF\n2: -> FLOCK ADVISORY WRITE 99 fe:00:5 0 EOF\n"
	if got := lockedBy(strings.NewReader(locks), "fe:00:5"); got != "1234" {
		t.Errorf("holder %q", got)
	}
	if got := lockedBy(strings.NewReader(locks), "fe:00:6"); got != "" {
		t.Errorf("holder of a free file %q", got)
	}
}
