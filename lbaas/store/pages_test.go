package store

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// FuzzPages: a file with a few wrong bytes is never opened as if it were whole
// when it is not, and never takes the process down. Values that it serves are
// the ones that were stored.
func FuzzPages(f *testing.F) {
	f.Add(uint32(0), []byte{0xff, 0xff})
	f.Add(uint32(4096*27+10), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint32(4096*26+8), []byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	whole, want := sample(f)
	f.Fuzz(func(t *testing.T, at uint32, wrong []byte) {
		raw := bytes.Clone(whole)
		copy(raw[int(at)%len(raw):], wrong)
		verify(t, "fuzzed", raw, want)
	})
}

// TestFreelistDamage: each way in which the list of free pages can lie.
func TestFreelistDamage(t *testing.T) {
	whole, want := sample(t)
	m, _ := readMetas(bytes.NewReader(whole))
	at := int(m.freelist) * int(m.pageSize)
	order := binary.NativeEndian
	if n := order.Uint16(whole[at+10:]); n == 0 {
		t.Fatal("the sample has no free pages")
	}
	for name, damage := range map[string]func(page []byte){
		"count in the data, huge": func(p []byte) {
			order.PutUint16(p[10:], countInData)
			order.PutUint64(p[pageHeader:], 1<<40)
		},
		"more than fits":   func(p []byte) { order.PutUint16(p[10:], 0xfffe) },
		"a page in use":    func(p []byte) { order.PutUint64(p[pageHeader:], m.root) },
		"a page outside":   func(p []byte) { order.PutUint64(p[pageHeader:], 1<<50) },
		"a meta page":      func(p []byte) { order.PutUint64(p[pageHeader:], 1) },
		"a page twice":     func(p []byte) { copy(p[pageHeader+8:pageHeader+16], p[pageHeader:]) },
		"one page fewer":   func(p []byte) { order.PutUint16(p[10:], order.Uint16(p[10:])-1) },
		"overflow outside": func(p []byte) { order.PutUint32(p[12:], 1<<30) },
		"another kind":     func(p []byte) { order.PutUint16(p[8:], flagLeaf) },
		"another page":     func(p []byte) { order.PutUint64(p, 3) },
	} {
		raw := bytes.Clone(whole)
		damage(raw[at : at+int(m.pageSize)])
		if !verify(t, name, raw, want) {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestMetaDamage: with one bad meta page bbolt would go on with the other, and
// perhaps without the last change.
func TestMetaDamage(t *testing.T) {
	whole, want := sample(t)
	for page := range 2 {
		for at := range metaSize {
			raw := bytes.Clone(whole)
			raw[page*os.Getpagesize()+pageHeader+at] ^= 1
			if !verify(t, "meta", raw, want) {
				t.Errorf("opened with byte %d of meta page %d changed", at, page)
			}
		}
	}
}

// TestRandomFiles: a file of something else is refused.
func TestRandomFiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	for range 50 {
		raw := make([]byte, random.IntN(40000))
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
		path := filepath.Join(t.TempDir(), "qlbaas.db")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(path, Options{}); err == nil && len(raw) > 0 {
			t.Errorf("%d random bytes were opened", len(raw))
			_ = s.Close()
		}
	}
}
