package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"qlbaas/cmd/qlbaas/cmdline"
)

// Limits of one exchange with the server.
const (
	answerLimit   = 64 << 20
	answerTimeout = 60 * time.Second
)

// Refused is the server's answer that it will not do what was asked.
type Refused struct {
	// Status is the HTTP status, Type the error's type as the API names it.
	Status  int
	Type    string
	Message string
	Detail  string
}

// Error returns the server's message, and its detail on a second line.
func (e *Refused) Error() string {
	switch {
	case e.Message == "":
		return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	case e.Detail == "":
		return e.Message
	}
	return e.Message + "\n" + e.Detail
}

// ExitCode is cmdline.ExitRefused.
func (e *Refused) ExitCode() int { return cmdline.ExitRefused }

// NoServer says that nobody answered, or not in the API's language.
type NoServer struct {
	API string
	Err error
}

// Error names the server that was asked and what went wrong.
func (e *NoServer) Error() string {
	return fmt.Sprintf("no server at %s: %v (choose another with --api or QLBAAS_API)", e.API, e.Err)
}

// Unwrap returns the cause.
func (e *NoServer) Unwrap() error { return e.Err }

// ExitCode is cmdline.ExitNoServer.
func (e *NoServer) ExitCode() int { return cmdline.ExitNoServer }

// server is the API as one caller sees it.
type server struct {
	api, base, token string
	http             *http.Client
}

// newServer takes unix:///path, http://host:port or https://host:port. token may
// be empty.
func newServer(api, token string) (*server, error) {
	u, err := url.Parse(api)
	if err != nil {
		return nil, cmdline.Usagef("--api: %v", err)
	}
	transport := &http.Transport{DisableKeepAlives: false}
	s := &server{api: api, token: token, http: &http.Client{
		Transport: transport,
		Timeout:   answerTimeout,
		// A redirect would carry the token to whoever it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	switch {
	case u.Scheme == "unix" && u.Path != "" && u.Host == "":
		s.base = "http://qlbaas"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.Path)
		}
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		s.base = strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/")
	default:
		return nil, cmdline.Usagef("--api %q: want unix:///path, http://host:port or https://host:port", api)
	}
	return s, nil
}

func (s *server) close() { s.http.CloseIdleConnections() }

// do sends one request and returns the body of the answer, nil where there is
// none. path is escaped already. Errors are *Refused and *NoServer.
func (s *server) do(ctx context.Context, method, path string, query url.Values, body any) ([]byte, error) {
	req, err := s.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, s.unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	if err != nil {
		return nil, s.unanswered(ctx, err)
	}
	if len(text) > answerLimit {
		return nil, &NoServer{API: s.api, Err: fmt.Errorf("an answer of more than %d bytes", answerLimit)}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusal(resp, text)
	}
	if len(text) > 0 && !json.Valid(text) {
		return nil, &NoServer{API: s.api, Err: errors.New("the answer is not JSON")}
	}
	return text, nil
}

func (s *server) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(text)
	}
	target := s.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, cmdline.Usagef("%s %s: %v", method, path, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "qlbaas")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		req.Header.Set("X-Auth-Token", s.token)
	}
	return req, nil
}

// unanswered tells an interrupted caller from a server that is not there.
func (s *server) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &NoServer{API: s.api, Err: err}
}

// refusal reads the API's error envelope; an answer without one keeps its status.
func refusal(resp *http.Response, text []byte) error {
	e := &Refused{Status: resp.StatusCode}
	var envelope map[string]struct{ Type, Message, Detail string }
	if json.Unmarshal(text, &envelope) == nil {
		for _, body := range envelope {
			e.Type, e.Message, e.Detail = body.Type, body.Message, body.Detail
		}
	}
	return e
}
