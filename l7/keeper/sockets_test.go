package keeper

import "testing"

func TestAnyOpen(t *testing.T) {
	const title = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
	line := func(local, state string) string {
		return "   0: " + local + " 0400000A:C350 " + state + " 00000000:00000000 00:00000000 00000000     0        0 1\n"
	}
	for _, c := range []struct {
		what, table string
		want        bool
	}{
		{"nothing", title, false},
		{"a listener, one that is over", title + line("0B6410AC:0050", "0A") + line("0B6410AC:0050", "06"), false},
		{"a probe", title + line("0B6410AC:FE00", "01"), false},
		{"an answer under way", title + line("0B6410AC:0050", "04"), true},
		{"a member's", title + line("0B6410AC:0400", "01"), true},
		{"IPv6", title + line("B80D0120000000000000000011000000:0050", "09"), true},
	} {
		if open, err := anyOpen(c.table); err != nil || open != c.want {
			t.Errorf("%s: %v, %v", c.what, open, err)
		}
	}
	for _, bad := range []string{"\nx", "\n0: 1:zz 2:1 01 5\n"} {
		if _, err := anyOpen(bad); err == nil {
			t.Errorf("%q is taken for a table", bad)
		}
	}
	if _, err := socketsOpen(); err != nil { // the kernel's own can be read
		t.Error(err)
	}
}
