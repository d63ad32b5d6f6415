package labtest

import (
	"bytes"
	"sync"
)

// Log takes what processes say. Safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	said bytes.Buffer
}

// Write implements io.Writer; it never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.Write(p)
}

// String is all that was said.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.String()
}
