// Package lab builds networks out of nothing but the kernel: each host is a network
// namespace, hosts are joined by veth pairs and bridges, and servers, clients and
// processes run inside them.
//
//	l, err := lab.New(lab.Options{})
//	defer l.Close()
//	t, err := lab.NewTutorial(l, lab.TutorialOptions{})
//	webs, err := t.StartWebs(80)
//	client := t.Client.HTTPClient(lab.HTTPOptions{})
//	code, body, err := lab.Get(ctx, client, "http://172.16.100.9/") // 200, "WEB1\n"
//
// There are two ways to use it.
//
// Tests run in a private world: Enter runs the whole test binary again in mount,
// network and process namespaces of its own, with an empty /run, /tmp substitute and
// bpffs. Whatever a test leaves behind ends with the binary, however it ends, and
// the machine's own network, /sys/fs/bpf and /run are out of reach. Package labtest
// has the few lines that tie a laboratory to a *testing.T.
//
// The demo builds on the machine itself (Options.OnMachine), because a person shall
// be able to look around in it: its namespaces are visible to `ip netns`, all with
// the prefix that it says, and Close removes them.
//
// Rules of the room:
//
//   - It does not import testing and returns errors: the demo command uses it.
//   - It knows nothing of the product: no maps, no loader, no API. What it knows of
//     BPF is what any onlooker can: pins, and the names that maps themselves carry.
//   - Addresses are literals. A name would start a resolver on some other thread,
//     and a socket belongs to the namespace of the thread that makes it.
//   - Everything that is opened is owned by a Host or a Lab and ends with it.
//
// Why no `ip netns exec`: it mounts another /sys, in which there is no bpffs, and
// pins vanish. Processes are started from a thread that has entered the namespace,
// and share all else with the test.
//
// An all-veth network hides checksum bugs, because a frame can travel all the way
// with its checksum left for a device that never comes. Run what forwards with
// TX offload off as well (Offload). XDP_TX and XDP_REDIRECT towards a veth device
// need GRO on at the other end, or an XDP program there: without one of them frames
// are dropped silently.
package lab
