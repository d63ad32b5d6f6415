package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"qlbaas/lbaas"
)

type callerKey struct{}

// WithCaller returns a context in which requests are made on behalf of c.
func WithCaller(ctx context.Context, c lbaas.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) (lbaas.Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(lbaas.Caller)
	return c, ok
}

// adminOnly keeps what shows every project from all but administrators.
func adminOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := callerOf(r.Context()); !c.Admin {
			writeError(w, failure(http.StatusForbidden, typeForbidden, "Only an administrator may see this"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Tokens knows callers by their token. It keeps hashes only.
type Tokens struct {
	entries []tokenEntry
}

type tokenEntry struct {
	sum    [sha256.Size]byte
	caller lbaas.Caller
}

// minToken is the shortest token in characters; with 6 bits each that is 132 bit.
// Tokens of hexadecimal digits have 4 bits each and need minHexToken.
const (
	minToken    = 22
	minHexToken = 32
)

// ReadTokens reads a token file. Each line is
//
//	TOKEN[:PROJECT[:admin]]
//
// where TOKEN has at least 128 bit: 32 hexadecimal digits or 22 characters of
// letters, digits and -._~+/=. PROJECT (default "default") owns what is created
// with the token; "admin" sees and may act for all projects. Blank lines and
// lines that begin with # are skipped. The file must not be readable by others
// than its owner and group.
func ReadTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read tokens: %s can be used by everybody (mode %04o), use 0600", path, info.Mode().Perm())
	}
	tokens, err := parseTokens(f)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %s: %w", path, err)
	}
	return tokens, nil
}

// parseTokens never shows a token in an error.
func parseTokens(r io.Reader) (*Tokens, error) {
	var t Tokens
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		entry, err := parseToken(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for _, other := range t.entries {
			if other.sum == entry.sum {
				return nil, fmt.Errorf("line %d: the token is there twice", n)
			}
		}
		t.entries = append(t.entries, entry)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.entries) == 0 {
		return nil, errors.New("there is no token")
	}
	return &t, nil
}

func parseToken(line string) (tokenEntry, error) {
	fields := strings.Split(line, ":")
	token, project, role := fields[0], "", ""
	if len(fields) > 1 {
		project = fields[1]
	}
	if len(fields) > 2 {
		role = fields[2]
	}
	allowed := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r)
	}
	shortest := minToken
	if strings.Trim(token, "0123456789abcdefABCDEF") == "" {
		shortest = minHexToken
	}
	switch {
	case len(fields) > 3:
		return tokenEntry{}, errors.New("more than three fields")
	case strings.TrimFunc(token, allowed) != "" || strings.ContainsFunc(token, func(r rune) bool { return !allowed(r) }):
		return tokenEntry{}, errors.New("the token has a character that is not allowed")
	case len(token) < shortest:
		return tokenEntry{}, fmt.Errorf("the token has less than 128 bit, it needs %d characters", shortest)
	case role != "" && role != "admin":
		return tokenEntry{}, fmt.Errorf("the role %.32q is not known, only admin is", role)
	}
	if project == "" {
		project = lbaas.DefaultTenant
	}
	sum := sha256.Sum256([]byte(token))
	return tokenEntry{sum: sum, caller: lbaas.Caller{
		TenantID: project, Admin: role == "admin", Who: "token " + hex.EncodeToString(sum[:4]),
	}}, nil
}

// caller returns whose token it is. It compares hashes, all of them and each in
// constant time, so that the time it takes says nothing about any token.
func (t *Tokens) caller(token string) (lbaas.Caller, bool) {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range t.entries {
		if subtle.ConstantTimeCompare(sum[:], t.entries[i].sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return lbaas.Caller{}, false
	}
	return t.entries[found].caller, true
}
