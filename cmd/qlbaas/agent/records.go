package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"qlbaas/lbaas"
	"qlbaas/lbaas/store"
)

// records is the opened store with what is to be thought of it.
type records struct {
	*store.Store
	// backup: the database is damaged, this is its backup, and takes no changes.
	backup bool
	// believed: if it holds no pool, there is to be none.
	believed bool
}

// openRecords opens the database, or its backup when it is damaged. It refuses a
// database that seems to have been lost while balancers are deployed.
func openRecords(cfg Config, node Node, log *slog.Logger) (*records, error) {
	path := filepath.Join(cfg.StateDir, "qlbaas.db")
	s, err := store.Open(path, store.Options{Log: log})
	if errors.Is(err, lbaas.ErrStoreDamaged) {
		return openBackup(path, err, log)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	info := s.Info()
	if err := checkLoss(path, info, cfg, node); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &records{Store: s, believed: !info.Fresh || cfg.AcceptEmpty}, nil
}

func checkLoss(path string, info store.Info, cfg Config, node Node) error {
	if !info.Fresh && !info.Older || cfg.AcceptEmpty {
		return nil
	}
	deployed, err := node.Deployed()
	if err != nil {
		return fmt.Errorf("list what is deployed: %w", err)
	}
	routers, err := node.Routers().Deployed()
	if err != nil {
		return fmt.Errorf("list which routers are deployed: %w", err)
	}
	what := "is new or empty"
	if !info.Fresh {
		what = fmt.Sprintf("is at revision %d", info.Revision)
	}
	switch {
	case info.Older:
		return fmt.Errorf("the database %s %s and its backup %s at revision %d: the database was lost or is an older copy; "+
			"put the right one in its place, or start with --accept-empty to go on with this one", path, what, store.BackupPath(path), info.BackupRevision)
	case len(deployed)+len(routers) > 0:
		return fmt.Errorf("the database %s %s, but %d pools and %d routers are deployed and go on forwarding: "+
			"put the right database in its place, or start with --accept-empty to remove what it does not know",
			path, what, len(deployed), len(routers))
	}
	return nil
}

func openBackup(path string, damage error, log *slog.Logger) (*records, error) {
	s, err := store.Open(store.BackupPath(path), store.Options{ReadOnly: true, Log: log})
	if err != nil {
		return nil, fmt.Errorf("open the store: %w; nor can its backup be used: %w; what is deployed goes on forwarding", damage, err)
	}
	log.Error("the database is damaged; its backup is served, no changes are taken and nothing on the node is changed",
		"err", damage, "backup", store.BackupPath(path), "revision", s.Info().Revision)
	return &records{Store: s, backup: true}, nil
}

// makeDirs makes the directories that do not exist. The run directory is open to
// the group, so that it can reach the API's socket.
func makeDirs(cfg Config, log *slog.Logger) error {
	if err := os.MkdirAll(cfg.StateDir, 0o750); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.RunDir), 0o755); err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	err := os.Mkdir(cfg.RunDir, 0o750)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		// The mode once more, for a umask may have taken from it.
		err = errors.Join(os.Chown(cfg.RunDir, 0, groupID(log)), os.Chmod(cfg.RunDir, 0o750))
	}
	if err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	return nil
}

// groupID is the group that may use the API beside root; root's without it.
func groupID(log *slog.Logger) int {
	group, err := user.LookupGroup("qlbaas")
	if err != nil {
		log.Info("there is no group qlbaas; the run directory belongs to root alone")
		return 0
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return 0
	}
	return gid
}
