package maps

import (
	"errors"
	"iter"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// entry is one entry of a hash map as it is stored.
type entry[K, V any] struct {
	key   K
	value V
}

// batches walks a hash map bucket by bucket. Other than a walk by keys it neither
// starts over nor ends early when entries go while it runs.
func batches[K, V any](m *ebpf.Map) iter.Seq2[entry[K, V], error] {
	return walk[K, V](m, 1024)
}

// walk reads size entries at a time, or as many as the fullest bucket holds.
func walk[K, V any](m *ebpf.Map, size int) iter.Seq2[entry[K, V], error] {
	return func(yield func(entry[K, V], error) bool) {
		var cursor ebpf.MapBatchCursor
		keys, values := make([]K, size), make([]V, size)
		for {
			n, err := m.BatchLookup(&cursor, keys, values, nil)
			if errors.Is(err, unix.ENOSPC) { // the next bucket holds more than a batch
				keys, values = make([]K, 2*len(keys)), make([]V, 2*len(values))
				continue
			}
			last := errors.Is(err, ebpf.ErrKeyNotExist)
			if err != nil && !last {
				yield(entry[K, V]{}, err)
				return
			}
			for i := range n {
				if !yield(entry[K, V]{keys[i], values[i]}, nil) {
					return
				}
			}
			if last {
				return
			}
		}
	}
}

// readArray reads the first len(values) elements of an array map.
func readArray[V any](m *ebpf.Map, values []V) error {
	var cursor ebpf.MapBatchCursor
	keys := make([]uint32, len(values))
	n, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	if n != len(values) {
		return invalid("array of %d elements where %d are expected", n, len(values))
	}
	return nil
}

// writeArray writes values, a slice, to the first n elements of an array map.
func writeArray(m *ebpf.Map, n int, values any) error {
	if n == 0 {
		return nil
	}
	keys := make([]uint32, n)
	for i := range keys {
		keys[i] = uint32(i)
	}
	done, err := m.BatchUpdate(keys, values, nil)
	if err == nil && done != n {
		err = invalid("array took %d of %d elements", done, n)
	}
	return err
}

// remove deletes a key; one that is not there is fine.
func remove(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
