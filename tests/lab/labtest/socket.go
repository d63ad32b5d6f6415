package labtest

import (
	"testing"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet/afpacket"
)

// Socket receives and sends frames at a host's device. It is closed when the test ends.
func Socket(t testing.TB, h *lab.Host, device string, o afpacket.Options) *afpacket.Socket {
	t.Helper()
	var s *afpacket.Socket
	err := h.Do(func() (err error) {
		s, err = afpacket.Open(device, o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
