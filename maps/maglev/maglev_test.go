package maglev

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// pool makes n usable members of weight 1 whose identities look like UUIDs.
func pool(n int, seed uint32) []Member {
	members := make([]Member, n)
	for i := range members {
		binary.BigEndian.PutUint32(members[i].ID[0:], seed*2654435761)
		binary.BigEndian.PutUint32(members[i].ID[4:], uint32(i))
		binary.BigEndian.PutUint32(members[i].ID[8:], uint32(i*i+1)*2246822519)
		members[i].ID[6] = members[i].ID[6]&0x0f | 0x40
		members[i].Weight, members[i].Usable = 1, true
	}
	return members
}

func shares(table []uint16, n int) []int {
	count := make([]int, n)
	for _, m := range table {
		count[m]++
	}
	return count
}

// moved counts places that belong to another member, which stayed.
func moved(before, after []uint16, gone uint16) int {
	n := 0
	for i := range before {
		if before[i] != gone && before[i] != after[i] {
			n++
		}
	}
	return n
}

func TestNobody(t *testing.T) {
	down := pool(2, 1)
	down[0].Usable, down[1].Weight = false, 0
	for _, members := range [][]Member{nil, down} {
		if table := Build(members); table != nil {
			t.Errorf("%v: table of %d places for nobody", members, len(table))
		}
	}
}

func TestSizesArePrime(t *testing.T) {
	for _, n := range []int{smallSize, MaxSize} {
		for d := 2; d*d <= n; d++ {
			if n%d == 0 {
				t.Errorf("%d = %d * %d", n, d, n/d)
			}
		}
	}
}

func TestSizeIsOfTheConfigured(t *testing.T) {
	members := pool(164, 1)
	if n := len(Build(members)); n != MaxSize {
		t.Errorf("164 members: %d places, want %d", n, MaxSize)
	}
	members[0].Usable = false
	if n := len(Build(members)); n != MaxSize {
		t.Errorf("163 of 164 up: %d places, want %d", n, MaxSize)
	}
	if n := len(Build(members[1:])); n != smallSize {
		t.Errorf("163 members: %d places, want %d", n, smallSize)
	}
	for i := range members {
		members[i].Weight = 256
	}
	if n := len(Build(members[1:])); n != smallSize {
		t.Errorf("163 members of one high weight: %d places, want %d", n, smallSize)
	}
}

// Every member has its share, but for two places and for its share of one place per
// member: nobody takes a part of a place, and the last round is cut short.
func TestSharesFollowWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := pool(rapid.IntRange(1, 40).Draw(t, "members"), rapid.Uint32().Draw(t, "seed"))
		sum, usable := 0, 0
		for i := range members {
			members[i].Weight = rapid.Uint16Range(0, 256).Draw(t, "weight")
			members[i].Usable = rapid.IntRange(0, 4).Draw(t, "usable") > 0
			if members[i].Usable {
				sum += int(members[i].Weight)
				usable++
			}
		}
		table := Build(members)
		if sum == 0 {
			if table != nil {
				t.Fatal("table for nobody")
			}
			return
		}
		for i, got := range shares(table, len(members)) {
			share := 0.0
			if members[i].Usable {
				share = float64(members[i].Weight) / float64(sum)
			}
			want, slack := share*float64(len(table)), 2*math.Ceil(share)+share*float64(usable)
			if math.Abs(float64(got)-want) > slack {
				t.Fatalf("member %d of weight %d/%d has %d places, want %.1f +- %.1f",
					i, members[i].Weight, sum, got, want, slack)
			}
		}
	})
}

// The largest pool: more weight than places, and still nobody goes without.
func TestLargest(t *testing.T) {
	members := pool(1024, 3)
	sum := 0
	for i := range members {
		members[i].Weight = uint16(256 - i%2)
		sum += int(members[i].Weight)
	}
	table := Build(members)
	for i, got := range shares(table, len(members)) {
		if want := len(table) * int(members[i].Weight) / sum; got < want-1 || got > want+2 {
			t.Errorf("member %d has %d places, want %d", i, got, want)
		}
	}
}

// One member of n leaves: its places go, and of the others' only a few move. The bound
// is what was seen over many pools, doubled; a table without consistency would move
// nearly all.
func TestFewMoveWhenOneLeaves(t *testing.T) {
	for _, n := range []int{2, 3, 10, 50, 163, 500} {
		worst := 0.0
		for seed := range uint32(4) {
			members := pool(n, seed)
			before := Build(members)
			for _, gone := range []int{0, n / 2, n - 1} {
				members[gone].Usable = false
				after := Build(members)
				members[gone].Usable = true
				if shares(after, n)[gone] != 0 {
					t.Fatalf("%d members: the one that left has places", n)
				}
				worst = max(worst, float64(moved(before, after, uint16(gone)))/float64(len(before)))
			}
		}
		t.Logf("%d members: %.2f %% of the others' places move", n, 100*worst)
		if worst > 0.05 {
			t.Errorf("%d members: %.1f %% of the others' places move", n, 100*worst)
		}
	}
}

func TestFewMoveWhenOneComes(t *testing.T) {
	members := pool(20, 9)
	members[7].Usable = false
	before := Build(members)
	members[7].Usable = true
	after := Build(members)
	lost := 0
	for i := range before {
		if after[i] != before[i] && after[i] != 7 {
			lost++
		}
	}
	if share := float64(lost) / float64(len(before)); share > 0.05 {
		t.Errorf("%.1f %% of places move between members that stayed", 100*share)
	}
}

// A weight that changes moves what the shares demand, and little else.
func TestFewMoveWhenAWeightChanges(t *testing.T) {
	members := pool(10, 5)
	for i := range members {
		members[i].Weight = 10
	}
	members[0].Weight = 9 // keeps the size: the gcd is 1 before and after
	before := Build(members)
	members[3].Weight = 11
	after := Build(members)
	n := 0
	for i := range before {
		if before[i] != after[i] {
			n++
		}
	}
	if share := float64(n) / float64(len(before)); share > 0.15 {
		t.Errorf("a tenth more weight for a tenth of the members moves %.1f %%", 100*share)
	}
}

// The table is a function of identities and weights: not of the order of the list,
// not of the time, not of the build.
func TestOrderDecidesNothing(t *testing.T) {
	members := pool(12, 2)
	for i := range members {
		members[i].Weight = uint16(1 + i%3)
	}
	turned := slices.Clone(members)
	slices.Reverse(turned)
	a, b := Build(members), Build(turned)
	for i := range a {
		if members[a[i]].ID != turned[b[i]].ID {
			t.Fatalf("place %d: %x in one order, %x in the other", i, members[a[i]].ID, turned[b[i]].ID)
		}
	}
}

// Clients of a running pool must not be moved by an upgrade.
func TestNeverChanges(t *testing.T) {
	members := pool(5, 1)
	members[2].Weight = 3
	table := Build(members)
	bytes := make([]byte, 0, 2*len(table))
	for _, m := range table {
		bytes = binary.BigEndian.AppendUint16(bytes, m)
	}
	if got, want := crc32.ChecksumIEEE(bytes), uint32(0x288681ee); got != want {
		t.Errorf("table has checksum %#x, want %#x", got, want)
	}
}

// Identities come from outside: whatever they are, Build ends and fills every place.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(1))
	f.Add(make([]byte, 64), uint16(300))
	f.Fuzz(func(t *testing.T, ids []byte, weight uint16) {
		var members []Member
		for chunk := range slices.Chunk(ids, 16) {
			m := Member{Weight: weight>>(len(members)%4) + 1, Usable: true}
			copy(m.ID[:], chunk)
			members = append(members, m)
			if len(members) == 32 {
				break
			}
		}
		for place, m := range Build(members) {
			if int(m) >= len(members) {
				t.Fatalf("place %d belongs to %d of %d", place, m, len(members))
			}
		}
	})
}

func BenchmarkLargest(b *testing.B) {
	members := pool(1024, 1)
	for b.Loop() {
		Build(members)
	}
}
