package api

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"qlbaas/lbaas"
)

// defaultGroup may use the socket beside root.
const defaultGroup = "qlbaas"

// listenUnix makes the socket under a private name, gives it its owner and mode,
// and only then lets it appear at its path: nobody finds it with other rights.
func (l *Listener) listenUnix(ctx context.Context, u *url.URL, h http.Handler, o ListenOptions) (http.Handler, error) {
	path := u.Path
	if u.Host != "" || !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, errors.New("use unix:///absolute/path")
	}
	gid := groupID(o.Group, o.Log)
	dir := filepath.Dir(path)
	if err := makeDir(dir, gid); err != nil {
		return nil, err
	}
	if err := checkStale(ctx, path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(dir, ".api-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	made := filepath.Join(private, "s")
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	socket.SetUnlinkOnClose(false)
	err = errors.Join(os.Chown(made, 0, gid), os.Chmod(made, 0o660))
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	l.Listener = socket
	l.cleanup = removeOwn(path)
	return asAdmin(h), nil
}

// groupID looks the group up; without it only root has the socket.
func groupID(name string, log *slog.Logger) int {
	if name == "" {
		name = defaultGroup
	}
	group, err := user.LookupGroup(name)
	if err == nil {
		var gid int
		if gid, err = strconv.Atoi(group.Gid); err == nil {
			return gid
		}
	}
	log.Warn("the API socket belongs to root alone", "group", name, "error", err)
	return 0
}

// makeDir makes the socket's directory; one that is there keeps its mode.
func makeDir(dir string, gid int) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(os.Chown(dir, 0, gid), os.Chmod(dir, 0o750))
}

// checkStale refuses a path that is something else than a socket, or a socket at
// which somebody answers.
func checkStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return errors.New("another server answers there")
	}
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// removeOwn returns a function that removes the socket, unless another server
// has put its own there since.
func removeOwn(path string) func() error {
	mine, err := os.Lstat(path)
	return func() error {
		now, statErr := os.Lstat(path)
		if err != nil || statErr != nil || !os.SameFile(mine, now) {
			return nil
		}
		return os.Remove(path)
	}
}

// asAdmin serves every request of the unix socket on behalf of an administrator:
// the rights on the socket have decided already.
func asAdmin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(string)
		caller := lbaas.Caller{TenantID: lbaas.DefaultTenant, Admin: true, Who: who}
		h.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), caller)))
	})
}
