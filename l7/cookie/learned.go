package cookie

import (
	"container/list"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Learned remembers which member gave which value of the application's cookie. It is
// bounded: what was used longest ago gives way. What was not used for the idle time is
// forgotten. Safe for concurrent use.
type Learned struct {
	limit int
	idle  time.Duration

	changed chan struct{}

	mu      sync.Mutex
	entries map[digest]*list.Element
	order   *list.List // of *entry, the one used last in front
}

// Values are the application's session keys: only digests of them are kept.
type digest [16]byte

type entry struct {
	value  digest
	member string
	// used last, and learned last.
	used, learned time.Time
}

// The table's size and memory of the original's users: its idle time was three hours.
const (
	DefaultLearned = 65536
	DefaultIdle    = 3 * time.Hour
)

// NewLearned returns an empty table; zero means the default.
func NewLearned(limit int, idle time.Duration) *Learned {
	if limit == 0 {
		limit = DefaultLearned
	}
	if idle == 0 {
		idle = DefaultIdle
	}
	return &Learned{
		limit: limit, idle: idle, changed: make(chan struct{}, 1),
		entries: map[digest]*list.Element{}, order: list.New(),
	}
}

// Learn notes that value belongs to a member from now on. An empty value is how
// applications take a cookie back; it belongs to nobody.
func (l *Learned) Learn(value []byte, memberID string) {
	if len(value) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.put(entry{value: digestOf(value), member: memberID, used: now, learned: now})
	select {
	case l.changed <- struct{}{}:
	default: // somebody is about to look anyway
	}
}

// Changed tells that something was learned since it last did. It has one reader.
func (l *Learned) Changed() <-chan struct{} { return l.changed }

func (l *Learned) put(e entry) {
	if at, known := l.entries[e.value]; known {
		at.Value = &e
		l.order.MoveToFront(at)
		return
	}
	if len(l.entries) >= l.limit {
		l.drop(l.order.Back())
	}
	l.entries[e.value] = l.order.PushFront(&e)
}

func (l *Learned) drop(at *list.Element) {
	delete(l.entries, at.Value.(*entry).value)
	l.order.Remove(at)
}

// Owner returns the member that value belongs to, and counts as a use.
func (l *Learned) Owner(value []byte) (memberID string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.entries[digestOf(value)]
	if !known {
		return "", false
	}
	now, e := time.Now(), at.Value.(*entry)
	if now.Sub(e.used) > l.idle {
		l.drop(at)
		return "", false
	}
	e.used = now
	l.order.MoveToFront(at)
	return e.member, true
}

// Len is the number of values, forgotten ones that nobody has asked for included.
func (l *Learned) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Record is an entry on its way to another process.
type Record struct {
	Value  string        `json:"value"`
	Member string        `json:"member"`
	Age    time.Duration `json:"age"` // since its last use
}

// Records returns what is known, the one used longest ago first, so that Restore
// keeps the order.
func (l *Learned) Records() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	records := make([]Record, 0, len(l.entries))
	for at := l.order.Back(); at != nil; at = at.Prev() {
		e := at.Value.(*entry)
		if now.Sub(e.used) <= l.idle {
			records = append(records, e.record(now))
		}
	}
	return records
}

// Since returns what was learned at that time or later, in the order of Records.
func (l *Learned) Since(then time.Time) (records []Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for at := l.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		if e.used.Before(then) {
			break // and so are all behind it
		}
		if !e.learned.Before(then) {
			records = append(records, e.record(now))
		}
	}
	slices.Reverse(records)
	return records
}

func (e *entry) record(now time.Time) Record {
	return Record{base64.RawStdEncoding.EncodeToString(e.value[:]), e.member, now.Sub(e.used)}
}

// Restore adds records of another process.
func (l *Learned) Restore(records []Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, r := range records {
		value, err := base64.RawStdEncoding.DecodeString(r.Value)
		if err != nil || len(value) != len(digest{}) {
			return fmt.Errorf("restore learned cookie %q: not a digest", r.Value)
		}
		l.put(entry{value: digest(value), member: r.Member, used: now.Add(-r.Age)})
	}
	return nil
}

// significant is how much of a value counts, as the original's users know it:
// applications may go on changing what is behind.
const significant = 56

func digestOf(value []byte) digest {
	sum := sha256.Sum256(value[:min(len(value), significant)])
	return digest(sum[:len(digest{})])
}
