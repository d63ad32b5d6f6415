package control

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// TestEndlessAnswer: a sidecar that does not stop talking is not listened to for ever.
func TestEndlessAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var talking sync.WaitGroup
	defer talking.Wait()
	defer l.Close()
	talking.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for block := bytes.Repeat([]byte(" "), 1<<20); err == nil; {
			_, err = conn.Write(block)
		}
	})
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Stats(t.Context()); !errors.Is(err, errTooLong) {
		t.Errorf("%v", err)
	}
}
