package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnit holds the unit file to what the agent can live with. Each of the
// forbidden settings either hides what the agent mounts from the host, or ends
// processes and flows that are to outlive it.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("qlbaas.service")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			set[key] = value
		}
	}
	for key, want := range map[string]string{"Type": "notify", "KillMode": "process", "Restart": "always"} {
		if set[key] != want {
			t.Errorf("%s=%s, want %s", key, set[key], want)
		}
	}
	for key := range set {
		for _, forbidden := range []string{
			"Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Bind", "TemporaryFileSystem", "RootDirectory",
			"RootImage", "MountFlags", "MemoryMax", "MemoryHigh", "MemoryLimit", "DynamicUser", "ExecStop", "NetworkNamespace",
		} {
			if strings.HasPrefix(key, forbidden) {
				t.Errorf("%s= must not be set", key)
			}
		}
	}
	verifyUnit(t, string(text))
}

// verifyUnit asks systemd, where there is one.
func verifyUnit(t *testing.T, text string) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	unit := filepath.Join(t.TempDir(), "qlbaas.service")
	text = strings.Replace(text, "/usr/bin/qlbaas ", "/bin/true ", 1)
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
