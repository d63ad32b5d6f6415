package lab

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// Hold tells on w how a person can look around in the private world, and keeps it
// standing until the program is interrupted.
func Hold(w io.Writer) error {
	pid, err := os.ReadFile(marker)
	if err != nil {
		return fmt.Errorf("hold laboratory: %w", err)
	}
	// The machine's view of the marker's process; all of its namespaces are the lab's.
	fmt.Fprintf(w, "\nThe laboratory stays. From another terminal:\n"+
		"  nsenter --target %s --mount --net --pid\n"+
		"  ip netns                  # the hosts\n"+
		"  nsenter --net=/run/netns/NAME ip addr\n"+
		"Interrupt the test to end it.\n", strings.TrimSpace(string(pid)))
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(interrupted)
	<-interrupted
	return nil
}
