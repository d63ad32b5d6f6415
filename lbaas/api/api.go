package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"qlbaas/lbaas"
)

// Limits of one request and of all together.
const (
	maxBody    = 1 << 20
	smallBody  = 16 << 10
	largeSlots = 16
	workSlots  = 64
	// maxWait bounds how long a request queues for a slot until 429.
	maxWait = 10 * time.Second
	// maxWork bounds the time that a request may wait for the store.
	maxWork = 30 * time.Second
)

// Options configures New. Handlers that are nil are not served.
type Options struct {
	Log *slog.Logger
	// Metrics is served at GET /metrics, Status at GET /qlbaas/status, to
	// administrators only: both show every project.
	Metrics, Status http.Handler
}

// New returns the API's handler. It serves requests whose context holds a
// Caller, which Listen puts there; others are answered with 401.
func New(svc *lbaas.Service, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{
		svc: svc, log: o.Log, mux: http.NewServeMux(),
		large: make(chan struct{}, largeSlots), work: make(chan struct{}, workSlots),
	}
	s.routes()
	if o.Metrics != nil {
		s.mux.Handle("GET /metrics", adminOnly(o.Metrics))
	}
	if o.Status != nil {
		s.mux.Handle("GET /qlbaas/status", adminOnly(o.Status))
	}
	return s
}

// server is the API over one service.
type server struct {
	svc *lbaas.Service
	log *slog.Logger
	mux *http.ServeMux
	// large and work hold a token per request that reads a large body, or works.
	large, work chan struct{}
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := "req-" + newUUID()
	w.Header().Set("X-Openstack-Request-Id", id)
	rec := &recorder{ResponseWriter: w}
	start := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			s.log.Error("request panicked", "request_id", id, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			if rec.code == 0 {
				writeError(rec, answerOf(fmt.Errorf("panic: %v", cause)))
			}
		}
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "code", rec.code,
			"duration", time.Since(start), "request_id", id)
	}()
	caller, ok := callerOf(r.Context())
	if !ok {
		w.Header().Set("WWW-Authenticate", "X-Auth-Token")
		writeError(rec, failure(http.StatusUnauthorized, typeUnauthorized, "Authentication required"))
		return
	}
	caller.RequestID = id
	ctx, cancel := context.WithTimeout(WithCaller(r.Context(), caller), maxWork)
	defer cancel()
	r = r.WithContext(ctx)
	// Old clients append a suffix to every path.
	r.URL.Path = strings.TrimSuffix(r.URL.Path, ".json")
	r.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, ".json")
	s.mux.ServeHTTP(rec, r)
}

// recorder remembers the status code, for the log.
type recorder struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// request is one call of the API, read and parsed.
type request struct {
	*http.Request
	caller lbaas.Caller
	query  lbaas.Query
	// body is nil for methods without one.
	body map[string]any
}

// operation carries a request out and returns the answer's code and body.
type operation func(r *request) (code int, body any, err error)

// handle makes a handler of an operation. The body is read before the request
// takes one of the slots in which work is done, and the answer is written after
// it gave the slot back, so that slow clients hold up nobody but themselves.
func (s *server) handle(op operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		code, body, err := s.serve(w, r, op)
		if err != nil {
			e := answerOf(err)
			if e.Code >= http.StatusInternalServerError {
				s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "code", e.Code,
					"request_id", w.Header().Get("X-Openstack-Request-Id"), "error", err)
			}
			writeError(w, e)
			return
		}
		if code == http.StatusNoContent {
			w.WriteHeader(code)
			return
		}
		writeJSON(w, code, body)
	}
}

func (s *server) serve(w http.ResponseWriter, r *http.Request, op operation) (int, any, error) {
	req := &request{Request: r}
	req.caller, _ = callerOf(r.Context())
	var raw []byte
	var err error
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if raw, err = s.read(w, r); err != nil {
			return 0, nil, err
		}
	}
	release, err := take(r.Context(), s.work)
	if err != nil {
		return 0, nil, err
	}
	defer release()
	if req.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return 0, nil, err
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if req.body, err = parseBody(r.Method, raw); err != nil {
			return 0, nil, err
		}
	}
	return op(req)
}

// read returns the body. Small ones need no slot, so that many slow clients
// together can't keep others from sending theirs; large ones share a few.
func (s *server) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, failure(http.StatusUnsupportedMediaType, typeEncoding,
			"Content-Encoding %.32q is not supported, send the body as it is", e)
	}
	tooLarge := failure(http.StatusRequestEntityTooLarge, typeTooLarge,
		"The body is larger than %d bytes", maxBody)
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	body := http.MaxBytesReader(w, r.Body, maxBody)
	raw, err := io.ReadAll(io.LimitReader(body, smallBody))
	if err == nil && len(raw) == smallBody {
		release, waitErr := take(r.Context(), s.large)
		if waitErr != nil {
			return nil, waitErr
		}
		defer release()
		var rest []byte
		rest, err = io.ReadAll(body)
		raw = append(raw, rest...)
	}
	if tooMuch := (*http.MaxBytesError)(nil); errors.As(err, &tooMuch) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, failure(http.StatusBadRequest, typeBadRequest, "The body could not be read")
	}
	return raw, nil
}

// take waits for a slot.
func take(ctx context.Context, slots chan struct{}) (release func(), err error) {
	release = func() { <-slots }
	select {
	case slots <- struct{}{}:
		return release, nil
	default:
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, failure(http.StatusTooManyRequests, typeTooMany, "Too many requests at once, try again")
	}
}

func parseBody(method string, raw []byte) (map[string]any, error) {
	if len(raw) == 0 {
		typ := typeBadRequest
		if method == http.MethodPut {
			typ = typeNoBody
		}
		return nil, failure(http.StatusBadRequest, typ, "Resource body required")
	}
	body, err := decode(raw)
	if err != nil {
		return nil, failure(http.StatusBadRequest, typeMalformed, "Malformed request body: %s", err)
	}
	return body, nil
}

// unwrap returns what the body's only key holds.
func (r *request) unwrap(key string) (map[string]any, error) {
	v, ok := r.body[key]
	if !ok {
		if _, bulk := r.body[key+"s"]; bulk {
			return nil, failure(http.StatusBadRequest, typeBadRequest, "Bulk operation is not supported: send one %s", key)
		}
		return nil, failure(http.StatusBadRequest, typeBadRequest, "Unable to find '%s' in request body", key)
	}
	if len(r.body) > 1 {
		return nil, failure(http.StatusBadRequest, typeBadRequest, "The body may hold '%s' only", key)
	}
	attrs, ok := v.(map[string]any)
	if !ok {
		return nil, failure(http.StatusBadRequest, typeBadRequest, "'%s' must be an object", key)
	}
	return attrs, nil
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: the runtime ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
