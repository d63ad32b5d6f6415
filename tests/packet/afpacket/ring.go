package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring sends frames of which the kernel holds only the first bytes in one piece (the
// linear part of its skb), as many drivers deliver them. A [Socket] cannot do that to
// frames of less than a page. Not safe for concurrent use.
type Ring struct {
	fd     int
	device string
	memory []byte
	next   int
}

// The ring's frames are a page each. What the kernel does not copy it reads from here,
// even after it has given the place back; hence so many of them.
const ringFrame, ringFrames = 4096, 64

// ringData is where a frame's bytes begin: behind struct tpacket2_hdr and where the
// kernel would put an address (TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)).
const ringData = 32

// struct tpacket2_hdr: status, length.
const ringStatus, ringLength = 0, 4

// OpenRing returns a ring on the named device of the calling thread's network
// namespace. The caller closes it.
func OpenRing(device string) (*Ring, error) {
	r, err := openRing(device)
	if err != nil {
		return nil, fmt.Errorf("open packet ring on %s: %w", device, err)
	}
	return r, nil
}

func openRing(device string) (*Ring, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	// Protocol 0: it receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &Ring{fd: fd, device: device}
	if err := r.prepare(dev.Index); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Ring) prepare(device int) (err error) {
	for name, value := range map[int]int{unix.PACKET_VERSION: unix.TPACKET_V2, unix.PACKET_VNET_HDR: 1} {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, name, value); err != nil {
			return fmt.Errorf("set option %d: %w", name, err)
		}
	}
	request := unix.TpacketReq{Block_size: ringFrame, Block_nr: ringFrames, Frame_size: ringFrame, Frame_nr: ringFrames}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &request); err != nil {
		return fmt.Errorf("set ring: %w", err)
	}
	if r.memory, err = unix.Mmap(r.fd, 0, ringFrame*ringFrames, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map ring: %w", err)
	}
	return unix.Bind(r.fd, &unix.SockaddrLinklayer{Ifindex: device})
}

// Send puts a plain frame on the device, whose first bytes are linear: at least the
// Ethernet header, at most what linear says. It returns when the frame is on its way.
func (r *Ring) Send(linear uint16, frame []byte) error {
	if ringData+headerSize+len(frame) > ringFrame {
		return fmt.Errorf("send frame of %d bytes by a ring: too long", len(frame))
	}
	place := r.memory[r.next*ringFrame:][:ringFrame]
	r.next = (r.next + 1) % ringFrames
	n := copy(place[ringData:], Header{HeaderLength: linear}.encode())
	copy(place[ringData+n:], frame)
	binary.NativeEndian.PutUint32(place[ringLength:], uint32(n+len(frame)))
	status := (*uint32)(unsafe.Pointer(&place[ringStatus]))
	atomic.StoreUint32(status, unix.TP_STATUS_SEND_REQUEST)
	if err := unix.Send(r.fd, nil, 0); err != nil {
		return fmt.Errorf("send frame of %d bytes by a ring on %s: %w", len(frame), r.device, err)
	}
	for {
		switch atomic.LoadUint32(status) {
		case unix.TP_STATUS_AVAILABLE: // it has left the device
			return nil
		case unix.TP_STATUS_WRONG_FORMAT:
			return fmt.Errorf("send frame of %d bytes by a ring on %s: refused", len(frame), r.device)
		}
		runtime.Gosched()
	}
}

// Close ends the ring.
func (r *Ring) Close() error {
	var err error
	if r.memory != nil {
		err = unix.Munmap(r.memory)
	}
	return errors.Join(err, unix.Close(r.fd))
}
