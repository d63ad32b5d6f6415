package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/lbaas"
)

// roleEnv makes the test binary play one of the roles below instead of testing.
const roleEnv = "QLBAAS_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "writer":
		err = playWriter(os.Args[len(os.Args)-1])
	case "full":
		err = playFullDisk(os.Args[len(os.Args)-1])
	default:
		err = fmt.Errorf("role %q is not known", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func play(t *testing.T, role, arg string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, arg)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// playWriter stores numbers until it is killed, and says each one after it was
// answered. Every transaction writes two records that have to be equal.
func playWriter(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	n := s.Info().Revision
	for {
		n++
		value := strings.Repeat(strconv.FormatUint(n, 10)+" ", 200)
		err := s.Update(context.Background(), func(tx lbaas.Tx) error {
			return errors.Join(putIn(tx, pools, fmt.Sprint(n%97), value), tx.Put(vips, fmt.Sprint(n%97), []byte(value)))
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill: nothing that was answered is lost, nothing half written is left.
func TestKill(t *testing.T) {
	path := dbPath(t)
	acked := uint64(0)
	for round := range 12 {
		acked = killWriter(t, path, 20+round*17)
		s := open1(t, path)
		if got := s.Info().Revision; got < acked || got > acked+1 {
			t.Fatalf("round %d: revision %d, %d was answered", round, got, acked)
		}
		for n := range 97 {
			key := fmt.Sprint(n)
			if a, b := get(t, s, pools, key), get(t, s, vips, key); a != b {
				t.Fatalf("round %d: a transaction was half stored: %.20q and %.20q", round, a, b)
			}
		}
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes were answered in 12 rounds", acked)
}

// killWriter kills a writer after some answers and returns the last one.
func killWriter(t *testing.T, path string, after int) uint64 {
	t.Helper()
	cmd := play(t, "writer", path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for lines, n := bufio.NewScanner(out), 1; lines.Scan(); n++ {
		if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			// The last line can be cut off by the kill; its number was not given.
			break
		}
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("writer: %v", err)
	}
	return last
}

// playFullDisk fills a small file system of its own and makes room again.
func playFullDisk(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	s, err := Open(filepath.Join(dir, "qlbaas.db"), Options{})
	if err != nil {
		return err
	}
	write := func(key string) error {
		return s.Update(context.Background(), func(tx lbaas.Tx) error {
			return putIn(tx, pools, key, strings.Repeat(key, 10000))
		})
	}
	stored := 0
	for err == nil && stored < 10000 {
		if err = write(fmt.Sprint(stored)); err == nil {
			stored++
		}
	}
	if !errors.Is(err, lbaas.ErrStoreFull) || stored == 0 {
		return fmt.Errorf("after %d records: %w", stored, err)
	}
	var revision uint64
	err = s.View(context.Background(), func(tx lbaas.Tx) (err error) {
		revision, err = lbaas.Revision(tx)
		return err
	})
	if err != nil || revision != uint64(stored) {
		return fmt.Errorf("revision %d after %d records: %w", revision, stored, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		return err
	}
	if err := write("again"); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		return err
	}
	if s, err = Open(filepath.Join(dir, "qlbaas.db"), Options{}); err != nil {
		return err
	}
	if s.Info().Revision != uint64(stored)+1 {
		return fmt.Errorf("revision %d after %d records", s.Info().Revision, stored+1)
	}
	return s.Close()
}

// TestFullDisk runs in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	cmd := play(t, "full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// sample makes a database of many pages and returns its bytes and its records.
func sample(t testing.TB) ([]byte, map[string]string) {
	t.Helper()
	path := dbPath(t)
	s := open1(t, path)
	want := map[string]string{}
	for round := range 8 {
		err := s.Update(context.Background(), func(tx lbaas.Tx) error {
			for i := range 60 {
				key, value := fmt.Sprint(i), strings.Repeat(fmt.Sprint(i, round, " "), 30+i)
				want[key] = value
				if err := putIn(tx, pools, key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The file has been grown ahead of its use.
	used := len(strings.TrimRight(string(raw), "\x00"))
	page := os.Getpagesize()
	return raw[:(used+page-1)/page*page], want
}

// verify opens damaged bytes: they may be refused as damaged, or still serve
// every record as it was, and nothing else.
func verify(t testing.TB, name string, raw []byte, want map[string]string) (refused bool) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "qlbaas.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		if !errors.Is(err, lbaas.ErrStoreDamaged) {
			t.Errorf("%s: %v, want ErrStoreDamaged", name, err)
		}
		return true
	}
	defer s.Close()
	for key, value := range want {
		if got := get(t, s, pools, key); got != value {
			t.Fatalf("%s: record %s is %.20q…, want %.20q…", name, key, got, value)
		}
	}
	put(t, s, vips, "new", "value")
	return false
}

// TestDamage: every page is overwritten, every kind of cut is made.
func TestDamage(t *testing.T) {
	raw, want := sample(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	page := os.Getpagesize()
	refused := 0
	for at := 0; at < len(raw); at += page {
		for _, how := range []string{"random", "zero", "bit", "header"} {
			damaged := append([]byte(nil), raw...)
			part := damaged[at : at+page]
			switch how {
			case "random":
				for i := range part {
					part[i] = byte(random.Uint32())
				}
			case "zero":
				clear(part)
			case "bit":
				part[random.IntN(page)] ^= 1 << random.IntN(8)
			case "header":
				for i := range 16 {
					part[i] = byte(random.Uint32())
				}
			}
			if verify(t, fmt.Sprintf("%s in page %d", how, at/page), damaged, want) {
				refused++
			}
		}
	}
	both := append([]byte(nil), raw...)
	clear(both[:2*page])
	if !verify(t, "both meta pages zero", both, want) {
		t.Error("a database without meta pages was opened")
	}
	for _, size := range []int{1, 100, page, 2 * page, 4 * page, len(raw) / 2, len(raw) - page} {
		if verify(t, fmt.Sprintf("cut to %d", size), raw[:size], want) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
	t.Logf("%d pages, %d damaged files refused", len(raw)/page, refused)
}

// TestDamageWhileOpen: what breaks under a running store becomes an error, and
// the store takes no more changes.
func TestDamageWhileOpen(t *testing.T) {
	raw, want := sample(t)
	for name, damage := range map[string]func(*os.File) error{
		"cut": func(f *os.File) error { return f.Truncate(int64(2 * os.Getpagesize())) },
		"zero": func(f *os.File) error {
			_, err := f.WriteAt(make([]byte, len(raw)-2*os.Getpagesize()), int64(2*os.Getpagesize()))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qlbaas.db")
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open1(t, path)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(damage(f), f.Close()); err != nil {
				t.Fatal(err)
			}
			noticed := false
			for key, value := range want {
				err := s.View(t.Context(), func(tx lbaas.Tx) error {
					if got := tx.Get(pools, key); got != nil && string(got) != value {
						t.Errorf("record %s is %.20q…", key, got)
					}
					return nil
				})
				if err != nil && !errors.Is(err, lbaas.ErrStoreDamaged) {
					t.Errorf("read: %v", err)
				}
				noticed = noticed || err != nil
			}
			err = s.Update(t.Context(), func(tx lbaas.Tx) error { return putIn(tx, pools, "1", "x") })
			if !errors.Is(err, lbaas.ErrStoreDamaged) {
				t.Errorf("change: %v", err)
			}
			if err := s.Backup(t.Context()); err == nil {
				t.Error("a damaged database was backed up")
			}
			if !noticed && name == "cut" {
				t.Error("nothing was noticed by reading")
			}
		})
	}
}

// TestNoChangesAfterDamage: what was noticed once is not forgotten.
func TestNoChangesAfterDamage(t *testing.T) {
	s := open1(t, dbPath(t))
	put(t, s, pools, "a", "one")
	err := s.Update(t.Context(), func(tx lbaas.Tx) error {
		return tx.(*transaction).bolt.Bucket([]byte(vips)).Put([]byte("b"), []byte("no checksum"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, pools, "a"); got != "one" {
		t.Errorf("record %q", got)
	}
	put(t, s, pools, "a", "two")
	read := s.View(t.Context(), func(tx lbaas.Tx) error {
		tx.Get(vips, "b")
		return nil
	})
	change := s.Update(t.Context(), func(tx lbaas.Tx) error { return putIn(tx, pools, "a", "three") })
	if !errors.Is(read, lbaas.ErrStoreDamaged) || !errors.Is(change, lbaas.ErrStoreDamaged) {
		t.Errorf("read %v, change %v", read, change)
	}
	if got := get(t, s, pools, "a"); got != "two" {
		t.Errorf("record %q", got)
	}
}

// TestStuck: a store whose transactions could not be ended gives its lock up.
func TestStuck(t *testing.T) {
	path := dbPath(t)
	s := open1(t, path)
	put(t, s, pools, "a", "one")
	s.stuck.Store(true)
	if err := s.Close(); !errors.Is(err, lbaas.ErrStoreDamaged) {
		t.Errorf("close: %v", err)
	}
	if got := get(t, open1(t, path), pools, "a"); got != "one" {
		t.Errorf("record %q", got)
	}
}

// TestNoLeftovers: a refused file can be opened by another process at once.
func TestNoLeftovers(t *testing.T) {
	raw, _ := sample(t)
	path := filepath.Join(t.TempDir(), "qlbaas.db")
	clear(raw[3*os.Getpagesize():])
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := Open(path, Options{}); !errors.Is(err, lbaas.ErrStoreDamaged) {
			t.Fatalf("open: %v", err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the file is still locked: %v", err)
	}
	_, _ = io.Copy(io.Discard, f)
}
