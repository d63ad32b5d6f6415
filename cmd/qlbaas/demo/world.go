package demo

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"qlbaas/tests/lab"
)

// client is the host that asks unless a chapter says otherwise.
func (d *demo) client() *lab.Host { return d.net.Client }

// build makes directories, hosts, web servers and the agent.
func (d *demo) build(ctx context.Context) (err error) {
	if err := d.buildHosts(ctx); err != nil {
		return err
	}
	d.tellNetwork()
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	status, err := d.status(ctx)
	if err != nil {
		return err
	}
	d.tellAgent()
	d.typed("export", "QLBAAS_API="+d.api())
	d.saw("the agent answers: version %s, hook %s", status.text("version"), status.text("hook"))
	return nil
}

func (d *demo) buildHosts(ctx context.Context) (err error) {
	if err := d.place.make(); err != nil {
		return err
	}
	if d.log, err = os.OpenFile(d.place.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if d.lab, err = lab.New(lab.Options{Prefix: hostPrefix, OnMachine: true}); err != nil {
		return err
	}
	if d.net, err = lab.NewTutorial(d.lab, lab.TutorialOptions{Members: members}); err != nil {
		return err
	}
	for _, m := range d.net.Members {
		if d.webs[m.Name], err = d.startWeb(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) tellNetwork() {
	d.say("Each host is a network namespace; the hosts of the subnet hang on the bridge %s\nof %s, where the agent will run.", lab.BridgeName, nodeHost)
	row := func(name, what string) { d.printf("    %-12s %s\n", name, what) }
	row(clientHost, d.net.ClientAddress.String())
	row(routerHost, "10.10.10.1, "+netip.PrefixFrom(d.net.Gateway, d.net.Subnet.Bits()).String())
	row(nodeHost, lab.BridgeName)
	for _, m := range d.net.Members {
		row(m.Host.Name(), fmt.Sprintf("%s  (web server, answers %q, process %d)",
			netip.PrefixFrom(m.Address, d.net.Subnet.Bits()), m.Name, d.webs[m.Name].process.Pid()))
	}
}

// tellKept says what a person can try in what is left standing.
func (d *demo) tellKept() {
	d.printf("\nEverything is left standing. As root you can try:\n")
	for _, line := range []string{
		"export QLBAAS_API=" + d.api(),
		d.exe + " status",
		d.exe + " pool list",
		d.exe + " demo get -n 6 " + vipURL,
		"ip netns                       # all hosts, and the balancer",
	} {
		d.saw("%s", line)
	}
	if d.poolID != "" {
		d.saw("ip netns exec %s ip addr", poolNamespace(d.poolID))
		d.saw("bpftool map dump pinned %s/vips_0", d.pinDir("maps"))
		d.saw("bpftool map dump pinned %s/flows", d.pinDir("maps"))
	}
	d.saw("nsenter --net=/run/netns/%s curl %s", clientHost, vipURL)
	if w := d.webs["WEB1"]; w != nil && w.process != nil {
		d.saw("kill -USR1 %d                # WEB1's port closes; -USR2 opens it", w.process.Pid())
		d.saw("kill -STOP %d                # WEB1 hangs; -CONT wakes it", w.process.Pid())
	}
	if id := d.memberIDs["WEB1"]; id != "" {
		d.saw("%s member update %s --weight 3", d.exe, id)
	}
	d.saw("tail -f %s", d.place.log)
	d.say("and remove it all with: %s demo clean", d.exe)
}
