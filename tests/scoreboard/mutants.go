package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// mutantsFolder holds the patches, as seen from the top of the tree.
const mutantsFolder = "tests/scoreboard/mutants"

// mutant is a patch that breaks the product.
type mutant struct {
	path   string
	name   string // of the file, without its ending
	figure string // that has to notice
	broken string // what, in words
	kernel bool   // it changes sources of the BPF programs
}

func readMutants(folder string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.patch"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, path := range paths {
		m, err := readMutant(path)
		if err != nil {
			return nil, fmt.Errorf("read mutant %s: %w", path, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func readMutant(path string) (mutant, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return mutant{}, err
	}
	words, patch, found := strings.Cut(string(content), "\ndiff ")
	words = strings.Join(strings.Fields(words), " ")
	name := strings.TrimSuffix(filepath.Base(path), ".patch")
	id, _, dashed := strings.Cut(name, "-")
	switch {
	case !found || strings.HasPrefix(words, "diff "):
		return mutant{}, errors.New("no words stand above its first diff")
	case !dashed:
		return mutant{}, errors.New("its name is not <figure>-<what>.patch")
	case !strings.Contains(words, strings.ToUpper(id)):
		return mutant{}, fmt.Errorf("its words do not say what %s has to notice", strings.ToUpper(id))
	}
	m := mutant{path: path, name: name, figure: strings.ToUpper(id), broken: words}
	for l := range strings.Lines(patch) {
		to, changes := strings.CutPrefix(strings.TrimSpace(l), "+++ b/bpf/")
		m.kernel = m.kernel || changes && (strings.HasSuffix(to, ".h") || strings.HasSuffix(to, ".c"))
	}
	return m, nil
}

// measure runs the figure on a patched copy of the tree. It is ok if the figure is not.
func (m mutant) measure(ctx context.Context, f figure, o options) line {
	began := time.Now()
	l := line{Figure: f.id, What: f.what, Target: f.target, Seed: seedText(o.seed), Kernel: kernel()}
	t, err := m.tree(ctx)
	if err != nil {
		l.Error = err.Error()
	} else {
		defer t.close()
		o.broken = true
		l = t.measure(ctx, f, o)
		l.OK = l.Error == "" && !l.OK
	}
	l.Mutant, l.Broken, l.Seconds = m.name, m.broken, seconds(began)
	return l
}

// tree is a patched copy of this one, built.
func (m mutant) tree(ctx context.Context) (*tree, error) {
	patch, err := filepath.Abs(m.path)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return nil, err
	}
	t := &tree{dir: filepath.Join(dir, "tree"), built: dir, command: filepath.Join(dir, "scoreboard")}
	if err := t.make(ctx, patch, m.kernel); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tree) make(ctx context.Context, patch string, kernel bool) error {
	if err := copyTree(".", t.dir); err != nil {
		return fmt.Errorf("copy tree: %w", err)
	}
	if err := apply(ctx, t.dir, patch); err != nil {
		return err
	}
	if kernel {
		if err := t.shell(ctx, "make", "generate"); err != nil {
			return err
		}
	}
	if err := t.shell(ctx, "go", "build", "-o", t.command, "./tests/scoreboard"); err != nil {
		return err
	}
	return t.buildBinary(ctx)
}

// apply puts a patch on the files of a folder; with --check it only tries.
func apply(ctx context.Context, dir, patch string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "git", append(append([]string{"apply"}, flags...), patch)...)
	// Of no repository: a copy has none, and whose this tree's is does not matter.
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_DIR=/nonexistent")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply %s: %w\n%s", filepath.Base(patch), err, out)
	}
	return nil
}
