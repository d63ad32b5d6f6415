package agent

import (
	"os"
	"path/filepath"
	"testing"

	"qlbaas/cmd/qlbaas/cmdline"
)

func TestBudget(t *testing.T) {
	for text, want := range map[string]uint64{
		"25%": 250, "100%": 1000, "1%": 10, "1000": 1000, "1": 1,
		"": 0, "0": 0, "0%": 0, "101%": 0, "-1": 0, "1001": 0, "1K": 0, "x": 0, "%": 0, "1.5%": 0, "999999999999G": 0, "18014398509481984K": 0,
	} {
		got, err := budget(text, 1000)
		if got != want || (want == 0) != (cmdline.ExitCode(err) == cmdline.ExitUsage) {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]uint64{"1K": 1 << 10, "3M": 3 << 20, "2G": 2 << 30} {
		if got, err := budget(text, 1<<40); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
}

// TestMemoryLimit reads made-up proc and sys trees.
func TestMemoryLimit(t *testing.T) {
	const meminfo = "MemFree: 1 kB\nMemTotal:       1024 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"no groups": {map[string]string{}, 1 << 20},
		"no limit":  {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 1 << 20},
		"v2": {map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
			"sys/fs/cgroup/a/memory.max": "1000\n",
		}, 1000},
		"v1": {map[string]string{
			"proc/self/cgroup": "4:cpu,memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 5000},
		"other controller":  {map[string]string{"proc/self/cgroup": "4:mymemory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n"}, 1 << 20},
		"above the machine": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "99999999\n"}, 1 << 20},
		"out of the tree":   {map[string]string{"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/memory.max": "7\n"}, 7},
		"garbage":           {map[string]string{"proc/self/cgroup": "nonsense\n::\n"}, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			c.files["proc/meminfo"] = meminfo
			for path, text := range c.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := memoryLimit(root); err != nil || got != c.want {
				t.Errorf("got %d, %v, want %d", got, err, c.want)
			}
		})
	}
	if _, err := memoryLimit(t.TempDir()); err == nil {
		t.Error("a machine without memory")
	}
}

// TestMemoryHere reads the real one.
func TestMemoryHere(t *testing.T) {
	if got, err := memoryLimit("/"); err != nil || got < 64<<20 {
		t.Errorf("got %d, %v", got, err)
	}
}
