package tests

import (
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// TestPortsAreUsedAgainWithoutTimestamps: a member that holds a port's last connection in
// TIME-WAIT, and has no timestamps to judge by, may answer the next one's SYN with an
// ACK. The client's RST clears that up if it gets there, and its next SYN follows at once.
func TestPortsAreUsedAgainWithoutTimestamps(t *testing.T) {
	rows.Proves(t, 66, 67)
	w := newWorld(t, "auto", lab.TutorialOptions{})
	if err := w.Client.Sysctl("net.ipv4.tcp_timestamps", "0"); err != nil {
		t.Fatal(err)
	}
	const sources = 200
	w.sayGoodbye(9)
	// A small table gives closed flows' ports back soon; else they would rest.
	b := w.balance(balancerOptions{endpoints: w.endpoints(9), vip: object{"flow_limit": 64}})
	all := w.fewPorts(sources)
	longest, resets := time.Duration(0), w.tcpCount(w.Client, "OutRsts")
	tries := 0
	for range 3 {
		for i, from := range all {
			if tries++; i%32 == 0 {
				b.rewindPorts()
			}
			took, err := b.hello(from)
			longest = max(longest, took)
			if err != nil || took > connectAtOnce {
				t.Errorf("connection %d, from %s, took %s: %v", i, from, took, err)
			}
		}
	}
	if met := tries - w.timeWait(); met < tries/4 {
		t.Errorf("only %d of %d connections met one in TIME-WAIT", met, tries)
	}
	challenged := w.tcpCount(w.Client, "OutRsts") - resets
	t.Logf("%d SYNs were answered with an ACK, the longest connect took %s", challenged, longest)
	if challenged == 0 {
		t.Error("no member answered with an ACK: nothing was shown")
	}
}
