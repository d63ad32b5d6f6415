package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds how deep a body may nest; real ones need four levels.
const maxDepth = 16

// decode reads the one JSON object that a body consists of, numbers as
// json.Number. It is stricter than encoding/json where leniency would let two
// readers see two different requests, or a text that no one sent: duplicate
// keys, surrogates without their half, and bytes that are no UTF-8 are errors.
func decode(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("the text is not UTF-8")
	}
	if err := checkSurrogates(raw); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	v, err := value(dec, maxDepth)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the object")
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("it is not an object")
	}
	return object, nil
}

func value(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, syntax(err)
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	if delim == '{' {
		return object(dec, depth)
	}
	return list(dec, depth)
}

// syntax hides the decoder's own words where the text just ends.
func syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early")
	}
	return err
}

func object(dec *json.Decoder, depth int) (map[string]any, error) {
	object := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, syntax(err)
		}
		key, ok := token.(string)
		if !ok {
			return nil, errors.New("a key is not a string")
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("the key %.64q is there twice", key)
		}
		if object[key], err = value(dec, depth-1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, syntax(err)
}

func list(dec *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for dec.More() {
		v, err := value(dec, depth-1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := dec.Token()
	return list, syntax(err)
}

// checkSurrogates refuses \u escapes of half a character. Backslashes occur in
// valid JSON within strings only, so that no further parsing is needed.
func checkSurrogates(raw []byte) error {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // what is escaped, a backslash for instance, is not looked at again
		r, ok := escape(raw, i)
		if !ok || r < 0xd800 || r > 0xdfff {
			continue
		}
		low, ok := escape(raw, i+6)
		if r >= 0xdc00 || i+5 >= len(raw) || raw[i+5] != '\\' || !ok || low < 0xdc00 || low > 0xdfff {
			return fmt.Errorf("\\u%04x is half a character", r)
		}
		i += 10
	}
	return nil
}

// escape reads a u and four hexadecimal digits at raw[i:].
func escape(raw []byte, i int) (rune, bool) {
	if i < 0 || i+5 > len(raw) || raw[i] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
	return rune(n), err == nil
}
