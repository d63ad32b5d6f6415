package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// Row is one entry of a BPF map. Its words are the numbers and texts of the fields,
// by the names that the map's own type information gives them.
type Row struct{ Key, Value Fields }

// Fields are the fields of a struct, in its order; those called reserved or pad are
// left out.
type Fields []Field

// Field is a named value: a uint64, a netip.Addr (struct addr), a UUID's text
// (16 bytes called id), a []any of them, or Fields.
type Field struct {
	Name  string
	Value any
}

// Get returns the value of the field of that name, here or else in a struct in here; nil
// when there is none.
func (f Fields) Get(name string) any {
	for _, one := range f {
		if one.Name == name {
			return one.Value
		}
	}
	for _, one := range f {
		if inner, ok := one.Value.(Fields); ok {
			if v := inner.Get(name); v != nil {
				return v
			}
		}
	}
	return nil
}

// String is as in "addr=172.16.100.11 port=80".
func (f Fields) String() string {
	words := make([]string, len(f))
	for i, one := range f {
		words[i] = fmt.Sprintf("%s=%v", one.Name, one.Value)
	}
	return strings.Join(words, " ")
}

// ReadPin returns up to limit rows of a pinned map, read as the structs key and
// value of the map's type information; an empty name stands for a number. It opens
// the map for reading only, and fails for a map without type information, of which
// bpftool could print no names either.
func ReadPin(path, key, value string, limit int) (rows []Row, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read map %s: %w", path, err)
		}
	}()
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	types, err := typesOf(m)
	if err != nil {
		return nil, err
	}
	keyType, err := typeNamed(types, key, m.KeySize())
	if err != nil {
		return nil, err
	}
	valueType, err := typeNamed(types, value, m.ValueSize())
	if err != nil {
		return nil, err
	}
	var k, v []byte
	entries := m.Iterate()
	for len(rows) < limit && entries.Next(&k, &v) {
		rows = append(rows, Row{Key: fieldsOf(keyType, k), Value: fieldsOf(valueType, v)})
	}
	return rows, entries.Err()
}

func typesOf(m *ebpf.Map) (*btf.Spec, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	id, ok := info.BTFID()
	if !ok {
		return nil, errors.New("it has no type information")
	}
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open type information: %w", err)
	}
	defer handle.Close()
	return handle.Spec(nil)
}

// typeNamed finds a struct by name; without one it is an integer of size bytes.
func typeNamed(types *btf.Spec, name string, size uint32) (btf.Type, error) {
	if name == "" {
		return &btf.Int{Size: size}, nil
	}
	var s *btf.Struct
	if err := types.TypeByName(name, &s); err != nil {
		return nil, fmt.Errorf("find struct %s: %w", name, err)
	}
	if s.Size != size {
		return nil, fmt.Errorf("struct %s has %d bytes, the entry %d", name, s.Size, size)
	}
	return s, nil
}

// fieldsOf reads bytes that are as long as their type.
func fieldsOf(t btf.Type, bytes []byte) Fields {
	s, ok := btf.UnderlyingType(t).(*btf.Struct)
	if !ok {
		return Fields{{Name: "index", Value: valueOf("", t, bytes)}}
	}
	var fields Fields
	for _, m := range s.Members {
		if m.Name == "reserved" || m.Name == "pad" {
			continue
		}
		size, err := btf.Sizeof(m.Type)
		begin := int(m.Offset.Bytes())
		if err != nil || begin+size > len(bytes) {
			fields = append(fields, Field{m.Name, "?"})
			continue
		}
		fields = append(fields, Field{m.Name, valueOf(m.Name, m.Type, bytes[begin:begin+size])})
	}
	return fields
}

func valueOf(name string, t btf.Type, bytes []byte) any {
	if bigEndian(t) {
		return number(binary.BigEndian, bytes)
	}
	switch u := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		if u.Name == "addr" {
			if a, ok := netip.AddrFromSlice(bytes); ok {
				return a
			}
		}
		return fieldsOf(u, bytes)
	case *btf.Array:
		if name == "id" && len(bytes) == 16 {
			return fmt.Sprintf("%x-%x-%x-%x-%x", bytes[:4], bytes[4:6], bytes[6:8], bytes[8:10], bytes[10:])
		}
		var all []any
		size := len(bytes) / int(max(u.Nelems, 1))
		for i := range int(u.Nelems) {
			all = append(all, valueOf("", u.Type, bytes[i*size:(i+1)*size]))
		}
		return all
	}
	return number(binary.NativeEndian, bytes)
}

// bigEndian tells whether the type is a number in network order, by its name.
func bigEndian(t btf.Type) bool {
	d, ok := t.(*btf.Typedef)
	return ok && (d.Name == "__be16" || d.Name == "__be32" || d.Name == "__be64")
}

func number(order binary.ByteOrder, bytes []byte) any {
	switch len(bytes) {
	case 1:
		return uint64(bytes[0])
	case 2:
		return uint64(order.Uint16(bytes))
	case 4:
		return uint64(order.Uint32(bytes))
	case 8:
		return order.Uint64(bytes)
	}
	return fmt.Sprintf("%x", bytes)
}

// DetachPin takes the program of a pinned link away from where it is attached. The
// pin stays and holds a link without effect, as after the device's removal.
func DetachPin(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return fmt.Errorf("open link %s: %w", path, err)
	}
	defer l.Close()
	d, ok := l.(interface{ Detach() error })
	if !ok {
		return fmt.Errorf("detach link %s: links of its kind cannot be detached", path)
	}
	if err := d.Detach(); err != nil {
		return fmt.Errorf("detach link %s: %w", path, err)
	}
	return nil
}

// LinkID is the kernel's number of a pinned link: another number is another link.
func LinkID(path string) (uint32, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return 0, fmt.Errorf("open link %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("look at link %s: %w", path, err)
	}
	return uint32(info.ID), nil
}
