package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/binary"
)

// tree is a copy of the sources, and what was built of it.
type tree struct {
	dir     string // its top folder
	built   string // folder of what was built
	command string // its own scoreboard
}

// thisTree is where the command was started, and the command itself.
func thisTree(ctx context.Context) (*tree, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, mutantsFolder)); err != nil {
		return nil, fmt.Errorf("start at the top of the tree: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	built, err := os.MkdirTemp("", "scoreboard-")
	if err != nil {
		return nil, err
	}
	t := &tree{dir: dir, built: built, command: self}
	if err := t.buildBinary(ctx); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tree) close() { os.RemoveAll(t.built) }

func (t *tree) binary() string { return filepath.Join(t.built, "qlbaas") }

func (t *tree) buildBinary(ctx context.Context) error {
	return t.shell(ctx, "go", "build", "-o", t.binary(), "./cmd/qlbaas")
}

// shell runs a command in the tree. Its output is part of the error, if there is one.
func (t *tree) shell(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = t.dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %q: %w\n%s", name, args, err, out)
	}
	return nil
}

// measure runs a figure on the tree and judges it.
func (t *tree) measure(ctx context.Context, f figure, o options) line {
	began := time.Now()
	r, said, err := t.child(ctx, f, o)
	l := line{
		Figure: f.id, What: f.what, Target: f.target, Seed: seedText(o.seed), Kernel: kernel(),
		Seconds: seconds(began), Tries: r.Tries, Failures: r.Failures, Misses: r.Misses, numbers: r.Numbers,
	}
	if err != nil {
		l.Error = err.Error()
	}
	l.OK = err == nil && r.ok()
	if !l.OK && !o.verbose {
		l.said = said
	}
	return l
}

// child runs a figure in a process of its own and returns its result, and all that it
// said beside.
func (t *tree) child(whole context.Context, f figure, o options) (r result, said []byte, err error) {
	ctx, cancel := context.WithTimeout(whole, f.bound+10*time.Second) // it ends itself before
	defer cancel()
	cmd := exec.CommandContext(ctx, t.command, "-child", f.id, "-seed", seedText(o.seed),
		fmt.Sprintf("-broken=%t", o.broken))
	cmd.Dir, cmd.Env = t.dir, append(os.Environ(), binary.Var+"="+t.binary())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if o.verbose {
		cmd.Stderr = os.Stderr
	}
	err = cmd.Run()
	switch {
	case whole.Err() != nil:
		err = whole.Err()
	case ctx.Err() != nil:
		err = fmt.Errorf("ended after its bound of %v", f.bound)
	case err != nil:
		err = fmt.Errorf("%w: %s", err, lastLine(log.Bytes()))
	case out.Len() == 0:
		err = errNoResult
	default:
		err = json.Unmarshal(out.Bytes(), &r)
	}
	return r, log.Bytes(), err
}

func lastLine(text []byte) []byte {
	text = bytes.TrimSpace(text)
	return text[bytes.LastIndexByte(text, '\n')+1:]
}

// copyTree copies the sources' folder, but for what is built there, and for git's.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case name == ".git" || name == ".cache" || name == "bin":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil // a work tree's .git is a file
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}
