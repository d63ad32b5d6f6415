package lbaas

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// kind is how values of an attribute are read from JSON and from a query.
type kind struct {
	// parse coerces and validates a JSON value.
	parse func(attr string, v any) (any, error)
	// filter coerces the text of a query to the form in which Object shows the
	// attribute; nil compares texts.
	filter func(attr, text string) (any, error)
}

// coerceInt takes what Python's int() takes from JSON: numbers (fractions cut
// off), decimal text, booleans.
func coerceInt(attr string, v any) (int64, error) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err == nil && math.Abs(f) < 1<<53 {
			return int64(f), nil
		}
	case string:
		text := strings.TrimSpace(v)
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, refuse(errInvalidInput, "Invalid input for %s: %s is not an integer", attr, quote(v))
}

// coerceBool takes true, false, 0, 1 and their texts in any case.
func coerceBool(attr string, v any) (bool, error) {
	text := ""
	switch v := v.(type) {
	case bool:
		return v, nil
	case json.Number:
		text = v.String()
	case string:
		text = strings.ToLower(v)
	}
	switch text {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, refuse(errInvalidInput, "Invalid input for %s: %s is not a boolean, use true or false",
		attr, quote(v))
}

// intKind reads an int64 within [min, max].
func intKind(min, max int64) kind {
	return kind{
		parse: func(attr string, v any) (any, error) {
			n, err := coerceInt(attr, v)
			if err != nil {
				return nil, err
			}
			if n < min || n > max {
				return nil, invalid(errBadRequest, attr, "%d is not in the range %d to %d", n, min, max)
			}
			return n, nil
		},
		filter: filterInt,
	}
}

func filterInt(attr, text string) (any, error) { return coerceInt(attr, text) }

// nullIntKind reads an int64 within [min, max], or null as 0.
func nullIntKind(min, max int64) kind {
	k := intKind(min, max)
	return orNull(k, int64(0))
}

// orNull lets null stand for the given value.
func orNull(k kind, null any) kind {
	return kind{filter: k.filter, parse: func(attr string, v any) (any, error) {
		if v == nil {
			return null, nil
		}
		return k.parse(attr, v)
	}}
}

// boolKind reads a bool.
func boolKind() kind {
	return kind{
		parse:  func(attr string, v any) (any, error) { return coerceBool(attr, v) },
		filter: func(attr, text string) (any, error) { return coerceBool(attr, text) },
	}
}

// stringOf refuses everything but a JSON string.
func stringOf(attr string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", invalid(errBadRequest, attr, "%s is not a string", quote(v))
	}
	return s, nil
}

// stringKind reads a string that check accepts.
func stringKind(check func(attr, s string) error) kind {
	return kind{parse: func(attr string, v any) (any, error) {
		s, err := stringOf(attr, v)
		if err != nil {
			return nil, err
		}
		if err := check(attr, s); err != nil {
			return nil, err
		}
		return s, nil
	}}
}

// textKind reads a string for people.
func textKind(max int) kind {
	return stringKind(func(attr, s string) error { return checkText(attr, s, max) })
}

// uuidKind reads the id of an object, a string.
func uuidKind() kind {
	return stringKind(func(attr, s string) error {
		if !isUUID(s) {
			return invalid(errBadRequest, attr, "%s is not a valid UUID", quote(s))
		}
		return nil
	})
}

// enumKind reads one of the allowed words, exact in case. T is the word's type.
func enumKind[T ~string](allowed ...T) kind {
	return kind{parse: func(attr string, v any) (any, error) {
		for _, word := range allowed {
			if v == string(word) {
				return word, nil
			}
		}
		words := make([]string, len(allowed))
		for i, word := range allowed {
			words[i] = string(word)
		}
		return nil, invalid(errBadRequest, attr, "%s is not one of %s", quote(v), strings.Join(words, ", "))
	}}
}

// listOf refuses everything but a JSON list of at most max entries.
func listOf(attr string, v any, max int) ([]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, invalid(errBadRequest, attr, "%s is not a list", quote(v))
	}
	if len(list) > max {
		return nil, invalid(errBadRequest, attr, "has %d entries, at most %d are allowed", len(list), max)
	}
	return list, nil
}

// uuidListKind reads []string of distinct ids.
func uuidListKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		list, err := listOf(attr, v, maxList)
		if err != nil {
			return nil, err
		}
		ids := make([]string, 0, len(list))
		seen := map[string]bool{}
		for _, entry := range list {
			id, err := uuidKind().parse(attr, entry)
			if err != nil {
				return nil, err
			}
			if seen[id.(string)] {
				return nil, invalid(errBadRequest, attr, "%s is there twice", quote(entry))
			}
			seen[id.(string)] = true
			ids = append(ids, id.(string))
		}
		return ids, nil
	}}
}

// maxList bounds every list in a request.
const maxList = 1024

// opaqueKind reads any JSON value that is only kept and shown again, of at most
// 4 KiB. Its texts obey the rules of every other text.
func opaqueKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		if err := checkOpaque(attr, v); err != nil {
			return nil, err
		}
		raw, err := json.Marshal(v)
		if err != nil || len(raw) > 4096 {
			return nil, invalid(errBadRequest, attr, "is larger than 4096 bytes")
		}
		return v, nil
	}}
}

func checkOpaque(attr string, v any) error {
	switch v := v.(type) {
	case string:
		return checkText(attr, v, 4096)
	case []any:
		for _, entry := range v {
			if err := checkOpaque(attr, entry); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, entry := range v {
			if err := checkText(attr, key, maxText); err != nil {
				return err
			}
			if err := checkOpaque(attr, entry); err != nil {
				return err
			}
		}
	}
	return nil
}
