package cookie

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Name is the name of the cookie that keeps a client at its member.
const Name = "SRV"

// Length is the length of its value, in hexadecimal digits: 128 bits.
const Length = 32

// Value names a member without telling anything about it, and cannot be made without
// the key.
func Value(key []byte, memberID string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(memberID))
	return hex.EncodeToString(mac.Sum(nil)[:Length/2])
}

// Find returns the value of the named cookie in a Cookie line, and how many cookies of
// that name the line has. The value is the first one, a part of line. Names are
// compared with their case, as browsers do.
func Find(line []byte, name string) (value []byte, count int) {
	for len(line) > 0 {
		var pair []byte
		pair, line, _ = bytes.Cut(line, []byte{';'})
		key, v, found := bytes.Cut(pair, []byte{'='})
		if !found || string(bytes.TrimSpace(key)) != name {
			continue
		}
		if count++; count == 1 {
			value = bytes.TrimSpace(v)
		}
	}
	return value, count
}

// AppendWithout appends line without the named cookies to dst. What is left is as the
// client wrote it, but for blanks around the gaps.
func AppendWithout(dst, line []byte, name string) []byte {
	start := len(dst)
	for len(line) > 0 {
		var pair []byte
		pair, line, _ = bytes.Cut(line, []byte{';'})
		pair = bytes.TrimSpace(pair)
		key, _, found := bytes.Cut(pair, []byte{'='})
		if len(pair) == 0 || found && string(bytes.TrimSpace(key)) == name {
			continue
		}
		if len(dst) > start {
			dst = append(dst, "; "...)
		}
		dst = append(dst, pair...)
	}
	return dst
}

// Given returns the value that a Set-Cookie line gives to the named cookie; found is
// false for lines about other cookies.
func Given(line []byte, name string) (value []byte, found bool) {
	pair, _, _ := bytes.Cut(line, []byte{';'})
	key, value, found := bytes.Cut(pair, []byte{'='})
	if !found || string(bytes.TrimSpace(key)) != name {
		return nil, false
	}
	return bytes.TrimSpace(value), true
}

// InPath returns the value of a path parameter, ";name=value", of a request target.
// Its name is compared without case, as applications do that put it there.
func InPath(target []byte, name string) (value []byte, found bool) {
	path := target
	if end := bytes.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	for {
		_, after, more := bytes.Cut(path, []byte{';'})
		if !more {
			return nil, false
		}
		path = after
		if len(path) <= len(name) || path[len(name)] != '=' || !bytes.EqualFold(path[:len(name)], []byte(name)) {
			continue
		}
		value = path[len(name)+1:]
		if end := bytes.IndexAny(value, ";/"); end >= 0 {
			value = value[:end]
		}
		return value, len(value) > 0
	}
}
