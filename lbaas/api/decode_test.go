package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"qlbaas/lbaas"
)

// FuzzDecode: whatever is accepted is what encoding/json reads as well, survives
// being written and read again, and holds no key twice.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{}`, `{"pool":{"name":"a","n":1e3,"l":[true,null,"\ud83d\ude00"]}}`,
		`{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"a":"\\ud800"}`, `{"a":"\u005c\ud800"}`, `{"a":[[[[]]]]}`, `{"a":1}x`, "{\"\xff\":1}",
		`{"a":"\udbff\udfff"}`, `{"a":"\udbff\u0000"}`, `[`, `{"a":`, `{"a" 1}`, `{1:2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decode(raw)
		if err != nil {
			if got != nil {
				t.Errorf("%q: both %v and %v", raw, got, err)
			}
			return
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var want map[string]any
		if err := dec.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v, encoding/json has %v %v", raw, got, want, err)
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(text)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%q: written as %q and read as %v %v", raw, text, again, err)
		}
		if strings.ContainsRune(fmt.Sprint(got), '\ufffd') && !bytes.ContainsRune(raw, '\ufffd') &&
			!strings.Contains(strings.ToLower(string(raw)), `\ufffd`) {
			t.Fatalf("%q: a character was replaced: %v", raw, got)
		}
	})
}

// TestSlots: a request waits for its turn, gives up with the client, and is told
// to come again when the wait is too long.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := make(chan struct{}, 1)
		release, err := take(t.Context(), slots)
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() {
			release, err := take(t.Context(), slots)
			if err == nil {
				release()
			}
			second <- err
		}()
		synctest.Wait()
		release()
		if err := <-second; err != nil {
			t.Errorf("after a wait: %v", err)
		}
		release, err = take(t.Context(), slots)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := take(gone, slots); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that is gone: %v", err)
		}
		var e *lbaas.Error
		if _, err := take(t.Context(), slots); !errors.As(err, &e) || e.Code != http.StatusTooManyRequests {
			t.Errorf("too long a wait: %v", err)
		}
	})
}

// TestTooMany: what does not get to work in time is told to come again.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{large: make(chan struct{}, 1), work: make(chan struct{}, 1), mux: http.NewServeMux()}
		goOn, first := make(chan struct{}), httptest.NewRecorder()
		h := s.handle(func(*request) (int, any, error) {
			<-goOn
			return http.StatusOK, map[string]any{}, nil
		})
		done := make(chan struct{})
		go func() {
			h(first, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			close(done)
		}()
		synctest.Wait()
		second := httptest.NewRecorder()
		h(second, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if second.Code != http.StatusTooManyRequests || second.Header().Get("Retry-After") == "" ||
			!strings.Contains(second.Body.String(), typeTooMany) {
			t.Errorf("second: %d %v %s", second.Code, second.Header(), second.Body)
		}
		close(goOn)
		<-done
		if first.Code != http.StatusOK {
			t.Errorf("first: %d", first.Code)
		}
	})
}

// slowBody stops in the middle until it is told to go on.
type slowBody struct {
	parts []string
	began chan<- struct{}
	goOn  <-chan struct{}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.parts) == 1 {
		b.began <- struct{}{}
		<-b.goOn
	}
	n := copy(p, b.parts[0])
	b.parts[0] = b.parts[0][n:]
	if b.parts[0] == "" && len(b.parts) > 1 {
		b.parts = b.parts[1:]
	} else if b.parts[0] == "" {
		return n, errors.New("gone")
	}
	return n, nil
}

// TestSlowClients: clients that stop in the middle of a body hold no slot that
// others need, more of them than there are slots of either kind.
func TestSlowClients(t *testing.T) {
	s := &server{large: make(chan struct{}, largeSlots), work: make(chan struct{}, workSlots), mux: http.NewServeMux()}
	h := s.handle(func(*request) (int, any, error) { return http.StatusOK, map[string]any{}, nil })
	slow := workSlots + 10
	began, goOn, done := make(chan struct{}, slow+largeSlots), make(chan struct{}), make(chan int, slow+largeSlots)
	serve := func(head string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", &slowBody{
			parts: []string{head, "rest"}, began: began, goOn: goOn})
		w := httptest.NewRecorder()
		h(w, r)
		done <- w.Code
	}
	for range slow {
		go serve(`{"a":`)
	}
	for range largeSlots {
		go serve(`{"a":"` + strings.Repeat("x", smallBody))
	}
	for range slow + largeSlots {
		<-began
	}
	w := httptest.NewRecorder()
	h(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(`{}`)))
	if w.Code != http.StatusOK {
		t.Errorf("a quick client among slow ones: %d %s", w.Code, w.Body)
	}
	close(goOn)
	for range slow + largeSlots {
		if code := <-done; code != http.StatusBadRequest {
			t.Errorf("a client that went away: %d", code)
		}
	}
	if len(s.large) != 0 || len(s.work) != 0 {
		t.Errorf("%d and %d slots are still taken", len(s.large), len(s.work))
	}
}
