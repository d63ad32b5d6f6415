package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
)

// Pattern is an endless stream of bytes that the seed determines and that never
// repeats: a byte that is lost, doubled, moved or changed shows.
func Pattern(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// Compare reads r to its end and fails unless it holds exactly the first size bytes
// of the seed's Pattern. The error says where they first differ.
func Compare(r io.Reader, seed uint64, size int64) error {
	want := Pattern(seed)
	got, expected := make([]byte, 1<<16), make([]byte, 1<<16)
	var at int64
	for {
		n, err := r.Read(got)
		if _, err := io.ReadFull(want, expected[:n]); err != nil {
			return fmt.Errorf("compare stream: make pattern: %w", err)
		}
		if !bytes.Equal(got[:n], expected[:n]) {
			i := 0
			for got[i] == expected[i] {
				i++
			}
			return fmt.Errorf("compare stream: byte %d is %#02x, want %#02x", at+int64(i), got[i], expected[i])
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF) && at == size:
			return nil
		case errors.Is(err, io.EOF) || at > size:
			return fmt.Errorf("compare stream: got %d bytes, want %d", at, size)
		case err != nil:
			return fmt.Errorf("compare stream: after %d of %d bytes: %w", at, size, err)
		}
	}
}

// Download fetches size bytes of the seed's Pattern from a Web and compares them.
// The base is as in "http://172.16.100.11".
func Download(ctx context.Context, client *http.Client, base string, size int64, seed uint64) error {
	url := fmt.Sprintf("%s/download?size=%d&seed=%d", base, size, seed)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", res.Status)
	} else {
		err = Compare(res.Body, seed, size)
	}
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("download %s: %w", url, err)
	}
	return nil
}

// Upload sends size bytes of the seed's Pattern to a Web, which compares them.
func Upload(ctx context.Context, client *http.Client, base string, size int64, seed uint64) error {
	url := fmt.Sprintf("%s/upload?seed=%d", base, seed)
	body := io.NopCloser(io.LimitReader(Pattern(seed), size))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	req.ContentLength = size
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	answer, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || string(answer) != fmt.Sprintf("%d bytes\n", size)) {
		err = fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(answer))
	}
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("upload %s: %w", url, err)
	}
	return nil
}
