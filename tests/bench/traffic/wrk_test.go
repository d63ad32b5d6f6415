package traffic

import (
	"strings"
	"testing"
)

const saidByWrk = `Running 1s test @ http://172.16.1.4:80/small
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.91ms    4.08ms  43.10ms   87.37%
    Req/Sec     5.71k     1.20k    8.11k    70.00%
  Latency Distribution
     50%  900.00us
     75%    4.10ms
     90%    8.33ms
     99%   17.42ms
  11237 requests in 1.02s, 3.98MB read
Requests/sec:  11047.31
Transfer/sec:      3.91MB
`

func TestParse(t *testing.T) {
	m, err := parse(saidByWrk)
	if err != nil {
		t.Fatal(err)
	}
	if want := (sample{requests: 11237, rate: 11047.31, p50: 900, p99: 17420}); m != want {
		t.Errorf("got %+v, want %+v", m, want)
	}
	const errs = "Socket errors: connect 0, read 3, write 0, timeout 1"
	m, err = parse(strings.Replace(saidByWrk, "Requests/sec", "  "+errs+"\nRequests/sec", 1))
	if err != nil || m.trouble != errs {
		t.Errorf("trouble is %q, %v", m.trouble, err)
	}
	for _, line := range []string{"11237 requests", "99% ", "Requests/sec"} {
		if _, err := parse(strings.Replace(saidByWrk, line, "", 1)); err == nil {
			t.Errorf("without %q nothing is missed", line)
		}
	}
	if _, err := parse(strings.Replace(saidByWrk, "11237", "0", 1)); err == nil {
		t.Error("no request is as good as many")
	}
}

// What goes another way than it should is found out, and only that.
func TestStrayed(t *testing.T) {
	const packets = 1000
	for name, c := range map[string]struct {
		way    way
		counts counts
		good   bool
	}{
		"proxy":                    {byProxy, counts{crossed: 1000, received: 1000}, true},
		"proxy that is passed by":  {byProxy, counts{crossed: 1000}, false},
		"inside":                   {byInside, counts{crossed: 1000, forwarded: 1000}, true},
		"inside, by sockets":       {byInside, counts{crossed: 1000, received: 1000, forwarded: 1000}, false},
		"inside, not at all":       {byInside, counts{forwarded: 1000}, false},
		"outside":                  {byOutside, counts{crossed: 10, forwarded: 1000}, true},
		"outside, but inside":      {byOutside, counts{crossed: 1000, forwarded: 1000}, false},
		"XDP":                      {byXDP, counts{crossed: 1000, turned: 1000, forwarded: 1000}, true},
		"XDP that leaves it to tc": {byXDP, counts{crossed: 1000, forwarded: 1000}, false},
		"nobody has counted":       {byOutside, counts{}, false},
	} {
		s := &subject{way: c.way, ours: c.way != byProxy}
		if err := s.strayed(c.counts, packets); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
