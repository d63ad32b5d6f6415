package pools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// object is one of the API, or a part of one.
type object = map[string]any

// agent is the product's process, and a client of its API.
type agent struct {
	process *lab.Process
	log     string
	http    http.Client
	subnet  any // the id of that which pools are in
}

// startAgent starts the product on the node, with room for all pools and a network for them.
func (b *bench) startAgent(ctx context.Context) error {
	path, err := b.binary()
	if err != nil {
		return err
	}
	if err := b.openFiles(); err != nil {
		return err
	}
	run := filepath.Join(b.dir, "run")
	a := &agent{log: filepath.Join(b.dir, "log")}
	a.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(run, "api.sock"))
	}}
	log, err := os.Create(a.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, "agent", "--hook", "tcx", "--memory-budget", "95%", "--run-dir", run,
		"--state-dir", filepath.Join(b.dir, "state"), "--bpffs", "/sys/fs/bpf/pools")
	cmd.Stderr = log
	if a.process, err = b.Node.Start(cmd); err != nil {
		return err
	}
	b.agent = a
	if err := a.await(ctx); err != nil {
		return err
	}
	if _, err := a.call(ctx, http.MethodPut, "/v2.0/quotas/default", "quota",
		object{"pool": -1, "vip": -1, "member": -1, "port": -1}); err != nil {
		return err
	}
	network, err := a.create(ctx, "networks", "network", object{"name": "bench", "provider:physical_network": lab.BridgeName})
	if err != nil {
		return err
	}
	made, err := a.create(ctx, "subnets", "subnet", object{
		"network_id": network["id"], "ip_version": 4, "cidr": subnet.String(), "gateway_ip": b.Gateway.String(),
	})
	a.subnet = made["id"]
	return err
}

// openFiles allows the agent so many as its unit file does, if the machine lets us: else
// there can be fewer pools.
func (b *bench) openFiles() error {
	const wanted, ofPool, others = 1 << 20, 38, 500
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: wanted, Max: wanted}) == nil {
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	if most := (int(limit.Max)-others)/ofPool - b.timed; most < b.crowd {
		b.note("the limit of %d open files on this machine lets no more than %d pools come together", limit.Max, most)
		b.crowd = most
	}
	return nil
}

// await returns when the API answers.
func (a *agent) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := a.call(ctx, http.MethodGet, "/", "", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await agent: %w", err)
		case <-a.process.Exited():
			text, _ := os.ReadFile(a.log)
			return fmt.Errorf("the agent has ended: %s", text)
		case <-again.C:
		}
	}
}

// stop ends the agent as a service manager does.
func (a *agent) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(a.process.Signal(unix.SIGTERM), a.process.Wait(ctx))
}

// create makes an object and returns it.
func (a *agent) create(ctx context.Context, collection, noun string, of object) (object, error) {
	answer, err := a.call(ctx, http.MethodPost, "/v2.0/"+collection, noun, of)
	if err != nil {
		return nil, err
	}
	made, ok := answer[noun].(object)
	if !ok {
		return nil, fmt.Errorf("create %s: none in %v", noun, answer)
	}
	return made, nil
}

// awaitActive returns when a VIP is deployed.
func (a *agent) awaitActive(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(seldom)
	defer again.Stop()
	for {
		answer, err := a.call(ctx, http.MethodGet, path, "", nil)
		if err != nil {
			return err
		}
		inner, _ := answer["vip"].(object)
		switch status := inner["status"]; status {
		case "ACTIVE":
			return nil
		case "ERROR":
			return fmt.Errorf("%s is %v: %v", path, status, inner["status_description"])
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %v: %w", path, inner["status"], ctx.Err())
		case <-again.C:
		}
	}
}

// call asks the API; what it says must be good.
func (a *agent) call(ctx context.Context, method, path, noun string, of object) (answer object, _ error) {
	var body bytes.Buffer
	if of != nil {
		if err := json.NewEncoder(&body).Encode(object{noun: of}); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, &body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	if json.Unmarshal(text, &answer) != nil {
		return nil, fmt.Errorf("%s %s: no JSON: %s", method, path, text)
	}
	return answer, nil
}
