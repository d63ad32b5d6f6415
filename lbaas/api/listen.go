package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"qlbaas/lbaas"
)

// maxConns bounds the connections of one listener.
const maxConns = 512

// ListenOptions configures Listen.
type ListenOptions struct {
	Log *slog.Logger
	// Tokens knows the callers on an http listener; NoAuth makes everybody an
	// administrator there. One of them is needed. The unix socket uses neither.
	Tokens *Tokens
	NoAuth bool
	// Group owns the unix socket beside root; "" means "qlbaas".
	Group string
}

// Listener serves the API at one address.
type Listener struct {
	net.Listener
	server  *http.Server
	spec    string
	cleanup func() error
}

// Listen opens the address that spec names and answers there with h:
//
//	unix:///path          whoever can open the socket (0660 root:qlbaas) is admin
//	http://127.0.0.1:PORT loopback addresses only; token or NoAuth
//
// Requests are answered only when Serve runs.
func Listen(ctx context.Context, spec string, h http.Handler, o ListenOptions) (*Listener, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: not an address", spec)
	}
	l := &Listener{spec: spec, cleanup: func() error { return nil }}
	switch u.Scheme {
	case "unix":
		h, err = l.listenUnix(ctx, u, h, o)
	case "http":
		h, err = l.listenHTTP(ctx, u, h, o)
	case "https":
		err = errors.New("TLS is not supported, use http on a loopback address")
	default:
		err = errors.New("use unix:///path or http://127.0.0.1:PORT")
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", spec, err)
	}
	l.Listener = limit(l.Listener, maxConns)
	l.server = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnContext:       withPeer,
	}
	return l, nil
}

// Serve answers requests until Shutdown, and returns nil then.
func (l *Listener) Serve() error {
	if err := l.server.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.spec, err)
	}
	return nil
}

// Shutdown stops listening and waits for the requests that are being served,
// until ctx ends. It can be called without Serve.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	_ = l.Close() // closed already, unless Serve never ran
	if err != nil {
		_ = l.server.Close()
		err = fmt.Errorf("shut down %s: %w", l.spec, err)
	}
	return errors.Join(err, l.cleanup())
}

// listenHTTP accepts loopback addresses only: requests and tokens travel in clear.
func (l *Listener) listenHTTP(ctx context.Context, u *url.URL, h http.Handler, o ListenOptions) (http.Handler, error) {
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil || u.Port() == "" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "":
		return nil, errors.New("use http://127.0.0.1:PORT")
	case !addr.IsLoopback():
		return nil, fmt.Errorf("%s is not a loopback address, and without TLS no other is served", addr)
	case o.Tokens == nil && !o.NoAuth:
		return nil, errors.New("it needs a token file, or to be told explicitly that nobody has to authenticate")
	}
	var lc net.ListenConfig
	l.Listener, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, u.Port()))
	if err != nil {
		return nil, err
	}
	return sameSite(authenticate(h, o)), nil
}

// authenticate finds out who calls on an http listener.
func authenticate(h http.Handler, o ListenOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, ok := lbaas.Caller{TenantID: lbaas.DefaultTenant, Admin: true, Who: "anybody at " + r.RemoteAddr}, true
		if !o.NoAuth {
			caller, ok = o.Tokens.caller(r.Header.Get("X-Auth-Token"))
		}
		if ok {
			r = r.WithContext(WithCaller(r.Context(), caller))
		}
		h.ServeHTTP(w, r)
	})
}

// sameSite refuses what a web page in a browser on this host could send to a
// loopback port: requests of another origin, and requests to a name that was
// made to point here.
func sameSite(h http.Handler) http.Handler {
	var cross http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "" && host != "localhost" && (err != nil || !addr.IsLoopback()) {
			writeError(w, failure(http.StatusForbidden, typeForbidden, "The host %.64q is not served here", r.Host))
			return
		}
		if err := cross.Check(r); err != nil {
			writeError(w, failure(http.StatusForbidden, typeForbidden, "Requests of other sites are not served"))
			return
		}
		h.ServeHTTP(w, r)
	})
}
