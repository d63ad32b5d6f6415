package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2, in the byte order of the machine.
const (
	magic       = 0xED0CDAED
	fileVersion = 2
	metaSize    = 64 // the last 8 bytes are a checksum of the others
	pageHeader  = 16 // id u64, flags u16, count u16, overflow u32
	element     = 16 // leaf: flags, pos, ksize, vsize u32; branch: pos, ksize u32, page u64

	flagBranch, flagLeaf, flagFreelist = 1, 2, 16
	flagBucket                         = 1
	bucketHeader                       = 16 // root page u64, sequence u64
	noFreelist                         = ^uint64(0)
	countInData                        = 0xffff

	minPageSize, maxPageSize = 1 << 10, 1 << 16
	maxLevels                = 64
)

// meta is what a meta page says.
type meta struct {
	pageSize             uint32
	root, freelist, high uint64
	tx                   uint64
}

// pages reads a file as bbolt would, but believes nothing.
type pages struct {
	file io.ReaderAt
	meta meta
	used map[uint64]bool
}

// checkPages walks all pages of a bbolt file without bbolt. It comes before
// bbolt maps the file: a damaged number there can make bbolt read outside of the
// map, or allocate all memory, before it has checked anything.
//
// Both meta pages have to be valid: bbolt would go on with one, and if the other
// was the newer one, an answered change would be gone without a word. A meta page
// fits into one sector, so that a power cut does not leave half of one.
func checkPages(file io.ReaderAt, size int64) error {
	m, n := readMetas(file)
	if n != 2 {
		return fmt.Errorf("%d of 2 meta pages are valid", n)
	}
	if m.high < 3 || m.high > uint64(size)/uint64(m.pageSize) {
		return fmt.Errorf("%d pages are in use, the file has %d", m.high, uint64(size)/uint64(m.pageSize))
	}
	p := &pages{file: file, meta: m, used: map[uint64]bool{}}
	if err := p.tree(m.root, 0); err != nil {
		return err
	}
	return p.freelist()
}

// readMetas returns the newest valid meta page and how many are valid.
func readMetas(file io.ReaderAt) (newest meta, valid int) {
	offsets := []int64{0}
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		offsets = append(offsets, size)
	}
	for _, at := range offsets {
		raw := make([]byte, pageHeader+metaSize)
		if _, err := file.ReadAt(raw, at); err != nil {
			continue
		}
		m, ok := parseMeta(raw[pageHeader:])
		if !ok || at != 0 && at != int64(m.pageSize) {
			continue
		}
		if valid++; valid == 1 || m.tx > newest.tx {
			newest = m
		}
	}
	return newest, valid
}

func parseMeta(raw []byte) (meta, bool) {
	order := binary.NativeEndian
	m := meta{
		pageSize: order.Uint32(raw[8:]), root: order.Uint64(raw[16:]),
		freelist: order.Uint64(raw[32:]), high: order.Uint64(raw[40:]), tx: order.Uint64(raw[48:]),
	}
	sum := fnv.New64a()
	_, _ = sum.Write(raw[:metaSize-8]) // a hash takes everything
	ok := order.Uint32(raw) == magic && order.Uint32(raw[4:]) == fileVersion &&
		order.Uint64(raw[metaSize-8:]) == sum.Sum64() &&
		m.pageSize >= minPageSize && m.pageSize <= maxPageSize && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// read returns a page with its overflow, and counts its pages as used.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= p.meta.high {
		return nil, fmt.Errorf("page %d is outside of the file", id)
	}
	size := int64(p.meta.pageSize)
	head := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(head, int64(id)*size); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	overflow := uint64(binary.NativeEndian.Uint32(head[12:]))
	switch {
	case binary.NativeEndian.Uint64(head) != id:
		return nil, fmt.Errorf("page %d says it is another one", id)
	case id+overflow >= p.meta.high:
		return nil, fmt.Errorf("page %d reaches outside of the file", id)
	}
	for i := id; i <= id+overflow; i++ {
		if p.used[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		p.used[i] = true
	}
	raw := make([]byte, int64(overflow+1)*size)
	if _, err := p.file.ReadAt(raw, int64(id)*size); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return raw, nil
}

// tree checks a page and all below it.
func (p *pages) tree(id uint64, level int) error {
	if level > maxLevels {
		return fmt.Errorf("page %d lies deeper than %d levels", id, maxLevels)
	}
	raw, err := p.read(id)
	if err != nil {
		return err
	}
	switch flags := binary.NativeEndian.Uint16(raw[8:]); flags {
	case flagLeaf:
		err = p.leaf(raw, level)
	case flagBranch:
		err = p.branch(raw, level)
	default:
		err = fmt.Errorf("has the flags %#x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements yields each element with its number, if all fit.
func elements(raw []byte, fn func(i int, e []byte) error) error {
	n := int(binary.NativeEndian.Uint16(raw[10:]))
	if pageHeader+n*element > len(raw) {
		return fmt.Errorf("%d elements do not fit", n)
	}
	for i := range n {
		if err := fn(i, raw[pageHeader+i*element:]); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

// part returns n bytes at pos behind the start of an element.
func part(e []byte, pos, n uint32) ([]byte, error) {
	if pos < element || uint64(pos)+uint64(n) > uint64(len(e)) {
		return nil, errors.New("its data lie outside of the page")
	}
	return e[pos : pos+n], nil
}

func (p *pages) branch(raw []byte, level int) error {
	order := binary.NativeEndian
	if order.Uint16(raw[10:]) == 0 {
		return errors.New("a branch without elements")
	}
	var last []byte
	return elements(raw, func(i int, e []byte) error {
		key, err := part(e, order.Uint32(e), order.Uint32(e[4:]))
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return errors.New("its key is out of order")
		}
		last = key
		return p.tree(order.Uint64(e[8:]), level+1)
	})
}

func (p *pages) leaf(raw []byte, level int) error {
	order := binary.NativeEndian
	var last []byte
	return elements(raw, func(i int, e []byte) error {
		pos, keySize, valueSize := order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
		key, err := part(e, pos, keySize)
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return errors.New("its key is out of order")
		}
		last = key
		if pos+keySize < pos {
			return errors.New("its data lie outside of the page")
		}
		value, err := part(e, pos+keySize, valueSize)
		if err != nil || order.Uint32(e)&flagBucket == 0 {
			return err
		}
		return p.bucket(value, level+1)
	})
}

// bucket checks a nested bucket, which may have its only page in itself.
func (p *pages) bucket(value []byte, level int) error {
	if len(value) < bucketHeader {
		return errors.New("a bucket is too short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.tree(root, level)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != flagLeaf {
		return errors.New("a bucket's own page is not a leaf")
	}
	return p.leaf(inline, level)
}

// freelist checks the list of free pages: none may be in use.
func (p *pages) freelist() error {
	if p.meta.freelist == noFreelist {
		return nil
	}
	raw, err := p.read(p.meta.freelist)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	order := binary.NativeEndian
	if order.Uint16(raw[8:]) != flagFreelist {
		return errors.New("the free list is another kind of page")
	}
	n, ids := uint64(order.Uint16(raw[10:])), raw[pageHeader:]
	if n == countInData {
		n, ids = order.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return fmt.Errorf("the free list can't hold %d pages", n)
	}
	for i := range n {
		id := order.Uint64(ids[i*8:])
		if id < 2 || id >= p.meta.high || p.used[id] {
			return fmt.Errorf("page %d is in the free list and is not free", id)
		}
		p.used[id] = true
	}
	return nil
}
