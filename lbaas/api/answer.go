package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"qlbaas/lbaas"
)

// Types of the errors that this package answers itself.
const (
	typeBadRequest   = "HTTPBadRequest"
	typeNoBody       = "BadRequest"
	typeMalformed    = "MalformedRequestBody"
	typeUnauthorized = "HTTPUnauthorized"
	typeForbidden    = "PolicyNotAuthorized"
	typeTooLarge     = "HTTPRequestEntityTooLarge"
	typeEncoding     = "HTTPUnsupportedMediaType"
	typeTooMany      = "HTTPTooManyRequests"
	typeInternal     = "HTTPInternalServerError"
	typeUnavailable  = "HTTPServiceUnavailable"
	typeFull         = "HTTPInsufficientStorage"
)

func failure(code int, typ, format string, args ...any) *lbaas.Error {
	return &lbaas.Error{Type: typ, Code: code, Message: fmt.Sprintf(format, args...)}
}

// answerOf turns any error into what the client is told. What it isn't to know
// (paths, causes) stays in the log.
func answerOf(err error) *lbaas.Error {
	var known *lbaas.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, lbaas.ErrStoreFull):
		return failure(http.StatusInsufficientStorage, typeFull,
			"No space is left to store the change, nothing was changed")
	case errors.Is(err, lbaas.ErrStoreReadOnly):
		return failure(http.StatusServiceUnavailable, typeUnavailable,
			"The service runs on a backup of its database and takes no changes")
	case errors.Is(err, lbaas.ErrStoreWrite):
		return failure(http.StatusServiceUnavailable, typeUnavailable,
			"The disk refused the change, nothing was changed")
	case errors.Is(err, lbaas.ErrUncertain):
		return failure(http.StatusServiceUnavailable, typeUnavailable,
			"The disk failed: it is not known whether the change was stored")
	case errors.Is(err, lbaas.ErrStoreDamaged):
		return failure(http.StatusServiceUnavailable, typeUnavailable,
			"The database is damaged; traffic is not affected")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return failure(http.StatusServiceUnavailable, typeUnavailable,
			"The request could not be served in time, nothing was changed")
	}
	return failure(http.StatusInternalServerError, typeInternal,
		"Request Failed: internal server error while processing your request")
}

// writeError answers in the envelope that clients parse.
func writeError(w http.ResponseWriter, e *lbaas.Error) {
	if e.Code == http.StatusTooManyRequests || e.Code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.Code, map[string]any{
		"NeutronError": map[string]string{"type": e.Type, "message": e.Message, "detail": e.Detail},
	})
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		code, raw = http.StatusInternalServerError, []byte(`{"NeutronError":{"type":"`+typeInternal+
			`","message":"The answer could not be encoded","detail":""}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(raw) // a client that is gone needs no answer
}
