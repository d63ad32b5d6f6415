package lab_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

const pinDir = "/sys/fs/bpf" // the private world's

// listener is a struct with one field of each kind that ReadPin knows.
func listener() *btf.Struct {
	be16 := &btf.Typedef{Name: "__be16", Type: &btf.Int{Name: "unsigned short", Size: 2}}
	be32 := &btf.Typedef{Name: "__be32", Type: &btf.Int{Name: "unsigned int", Size: 4}}
	addr := &btf.Struct{Name: "addr", Size: 4, Members: []btf.Member{{Name: "word", Type: array(be32, 1)}}}
	u8, u32 := &btf.Int{Name: "unsigned char", Size: 1}, &btf.Int{Name: "unsigned int", Size: 4}
	return &btf.Struct{Name: "listener", Size: 32, Members: []btf.Member{
		{Name: "addr", Type: addr},
		{Name: "port", Type: be16, Offset: 4 * 8},
		{Name: "reserved", Type: be16, Offset: 6 * 8},
		{Name: "limit", Type: u32, Offset: 8 * 8},
		{Name: "weights", Type: array(&btf.Int{Name: "unsigned short", Size: 2}, 2), Offset: 12 * 8},
		{Name: "id", Type: array(u8, 16), Offset: 16 * 8},
	}}
}

func array(t btf.Type, n uint32) *btf.Array {
	return &btf.Array{Index: &btf.Int{Name: "int", Size: 4}, Type: t, Nelems: n}
}

func pinMap(t *testing.T, name string, spec *ebpf.MapSpec) (*ebpf.Map, string) {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(pinDir, name)
	if err := m.Pin(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Unpin(); m.Close() })
	return m, path
}

func TestReadPin(t *testing.T) {
	m, path := pinMap(t, "listeners", &ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 32, MaxEntries: 3,
		Key: &btf.Int{Name: "unsigned int", Size: 4}, Value: listener(),
	})
	value := []byte{172, 16, 100, 11, 0, 80, 0xff, 0xff}
	value = binary.NativeEndian.AppendUint32(value, 5000)
	value = binary.NativeEndian.AppendUint16(value, 3)
	value = binary.NativeEndian.AppendUint16(value, 1)
	for i := range 16 {
		value = append(value, byte(0x11*i))
	}
	if err := m.Put(uint32(1), value); err != nil {
		t.Fatal(err)
	}
	rows, err := lab.ReadPin(path, "", "listener", 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[1].Key.Get("index") != uint64(1) {
		t.Fatalf("got rows %v, want two, the second of index 1", rows)
	}
	got := rows[1].Value
	want := "addr=172.16.100.11 port=80 limit=5000 weights=[3 1] id=00112233-4455-6677-8899-aabbccddeeff"
	if got.String() != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got.Get("addr") != netip.MustParseAddr("172.16.100.11") || got.Get("port") != uint64(80) || got.Get("other") != nil {
		t.Errorf("fields by name: %v, %v, %v", got.Get("addr"), got.Get("port"), got.Get("other"))
	}
}

// TestReadPinWithoutNames refuses to guess.
func TestReadPinWithoutNames(t *testing.T) {
	_, nameless := pinMap(t, "nameless", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 32, MaxEntries: 1})
	_, longer := pinMap(t, "longer", &ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 32, MaxEntries: 1,
		Key: &btf.Int{Name: "unsigned int", Size: 4}, Value: listener(),
	})
	for _, c := range []struct{ path, value string }{
		{nameless, "listener"}, {longer, "addr"}, {longer, "stranger"}, {filepath.Join(pinDir, "nothing"), "listener"},
	} {
		if rows, err := lab.ReadPin(c.path, "", c.value, 1); err == nil {
			t.Errorf("%s as %s: got %v, want an error", c.path, c.value, rows)
		}
	}
}

// isTimeout: whichever clock was first, the context's or the socket's.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestDetachPin takes a program that drops everything off a device.
func TestDetachPin(t *testing.T) {
	tutorial := labtest.Tutorial(t, lab.TutorialOptions{Members: 1})
	web := tutorial.Members[0]
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* TC_ACT_SHOT */), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	path := filepath.Join(pinDir, "drop")
	err = web.Host.Do(func() error {
		device, err := net.InterfaceByName(lab.Uplink)
		if err != nil {
			return err
		}
		attached, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: program, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		defer attached.Close()
		return attached.Pin(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	if id, err := lab.LinkID(path); err != nil || id == 0 {
		t.Errorf("link id %d, %v", id, err)
	}
	knock := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := tutorial.Client.Dial(ctx, "tcp", netip.AddrPortFrom(web.Address, 80).String())
		return err
	}
	if err := knock(); !isTimeout(err) {
		t.Fatalf("with a program that drops all: %v, want silence", err)
	}
	if err := lab.DetachPin(path); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// Nobody listens: the host itself is heard again.
	for err = knock(); isTimeout(err); err = knock() {
		if time.Since(began) > patience {
			t.Fatal("nothing passes after the program was detached")
		}
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after the program was detached: %v, want a refusal", err)
	}
}
