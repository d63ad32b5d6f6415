package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// agentWords are the command line of the agent.
func (d *demo) agentWords() []string {
	return []string{
		"agent", "--state-dir", d.place.state, "--run-dir", d.place.run, "--bpffs", d.place.bpffs,
		"--api", "unix://" + d.place.socket, "--hook", d.options.hook,
	}
}

// startAgent starts the agent on the node and waits until it answers.
func (d *demo) startAgent(ctx context.Context) error {
	cmd := exec.Command(d.exe, d.agentWords()...)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	var err error
	if d.agent, err = d.net.Node.Start(cmd); err != nil {
		return err
	}
	return until(ctx, patience, func() error {
		select {
		case <-d.agent.Exited():
			return fatal(fmt.Errorf("the agent has ended: %w", d.agent.Wait(ctx)))
		default:
		}
		_, err := d.status(ctx)
		return err
	})
}

// tellAgent prints how the agent is started.
func (d *demo) tellAgent() {
	words := append([]string{"ip", "netns", "exec", nodeHost, "qlbaas"}, d.agentWords()...)
	d.printf("  $ %s &\n", shell(words))
}

// killAgent ends the agent with SIGKILL.
func (d *demo) killAgent() {
	d.typed("kill", "-9", fmt.Sprint(d.agent.Pid()))
	d.agent.Kill()
}

// stopAgent ends the agent as a service manager does.
func (d *demo) stopAgent(ctx context.Context) error {
	d.typed("kill", fmt.Sprint(d.agent.Pid()))
	if err := d.agent.Signal(unix.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.agent.Wait(ctx); err != nil {
		return fmt.Errorf("stop agent: %w", err)
	}
	return nil
}

// logLines is how much of the log explains a failure.
const logLines = 30

// tellLog prints the end of what agent and web servers have said.
func (d *demo) tellLog() {
	text, err := os.ReadFile(d.place.log)
	if err != nil || len(text) == 0 {
		return
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	d.printf("\nThe end of %s:\n", d.place.log)
	d.saw("%s", strings.Join(lines[max(0, len(lines)-logLines):], "\n"))
}
