package loader

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// systemBPFFS is where systemd mounts the machine's bpffs.
const systemBPFFS = "/sys/fs/bpf"

// bpffsFlags are the ones that systemd uses.
const bpffsFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME

// ensureBPFFS makes dir a directory on a bpffs that only root can enter. Below
// /sys/fs/bpf that file system is mounted where systemd would; anywhere else, if
// dir is not on one yet, a bpffs of our own is mounted at dir.
func ensureBPFFS(dir string) error {
	if dir == systemBPFFS || strings.HasPrefix(dir, systemBPFFS+"/") {
		if err := mountBPFFS(systemBPFFS); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make bpffs directory: %w", err)
	}
	return mountBPFFS(dir)
}

// mountBPFFS mounts a bpffs at dir unless dir is on one.
func mountBPFFS(dir string) error {
	on, err := onBPFFS(dir)
	if err != nil || on {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", bpffsFlags, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs at %s: %w", dir, err)
	}
	return nil
}

func onBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}
