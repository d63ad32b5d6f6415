package maps

import "errors"

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: there is no such entry, slot or generation.
	ErrNotFound = errors.New("not found")
	// ErrExists: the entry is there already and is left as it is.
	ErrExists = errors.New("exists already")
	// ErrFull: the map has no room left.
	ErrFull = errors.New("map is full")
	// ErrInvalid: the value contradicts itself or cannot be stored; the text names
	// the field. Nothing was written.
	ErrInvalid = errors.New("invalid value")
)
