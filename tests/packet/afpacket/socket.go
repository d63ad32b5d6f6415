package afpacket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a socket; the zero value receives plain frames that arrive.
type Options struct {
	// VirtioHeader sends and receives each frame with its Header.
	VirtioHeader bool
	// Outgoing also receives what this host itself sends through the device.
	Outgoing bool
}

// Socket sends and receives frames on one device. Safe for concurrent use; one
// receiver waits for the other.
type Socket struct {
	file    *os.File
	raw     syscall.RawConn
	device  string
	options Options

	receiving sync.Mutex
	buffer    []byte // guarded by receiving
}

// Frame is a received frame.
type Frame struct {
	// Bytes from the Ethernet header on. A VLAN tag that the kernel took out is
	// back in its place.
	Bytes []byte
	// Header is zero unless the socket has VirtioHeader.
	Header Header
	// Outgoing is set on frames that this host sent.
	Outgoing bool
	// Partial: the transport checksum is not yet computed (CHECKSUM_PARTIAL).
	Partial bool
}

// receiveBuffer, in bytes, holds a burst of super-packets.
const receiveBuffer = 8 << 20

// Open returns a socket on the named device of the calling thread's network
// namespace. The caller closes it. Frames are received from the moment of the call.
func Open(device string, options Options) (*Socket, error) {
	s, err := open(device, options)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", device, err)
	}
	return s, nil
}

func open(device string, options Options) (*Socket, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	// Protocol 0: nothing is queued before the socket is bound to its device.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "packet socket on "+device)
	type option struct{ level, name, value int }
	set := []option{
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer},
	}
	if options.VirtioHeader {
		set = append(set, option{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1})
	}
	if !options.Outgoing {
		set = append(set, option{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1})
	}
	for _, o := range set {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return nil, errors.Join(fmt.Errorf("set option %d: %w", o.name, err), file.Close())
		}
	}
	// The address holds the protocol in network order.
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// A super-packet is at most 64 KiB of IP behind its link header and our own.
	buffer := make([]byte, headerSize+18+1<<16)
	return &Socket{file: file, raw: raw, device: device, options: options, buffer: buffer}, nil
}

// Close ends the socket; whoever waits in Receive gets an error.
func (s *Socket) Close() error { return s.file.Close() }

// Send puts a plain frame on the device. At least 14 bytes, at most the device's
// MTU plus the Ethernet header.
func (s *Socket) Send(frame []byte) error { return s.SendWith(Header{}, frame) }

// SendWith puts a frame on the device as the header describes it; anything but the
// zero Header needs a socket with VirtioHeader.
func (s *Socket) SendWith(h Header, frame []byte) error {
	out := frame
	switch {
	case s.options.VirtioHeader:
		out = append(h.encode(), frame...)
	case h != Header{}:
		return fmt.Errorf("send frame on %s: the socket has no virtio header", s.device)
	}
	var sent error
	err := s.raw.Write(func(fd uintptr) bool {
		_, sent = unix.Write(int(fd), out)
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("send frame of %d bytes on %s: %w", len(frame), s.device, err)
	}
	return nil
}

// Receive waits for the next frame. It fails when ctx ends, with its error.
func (s *Socket) Receive(ctx context.Context) (Frame, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		return Frame{}, fmt.Errorf("receive frame on %s: %w", s.device, err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = s.file.SetReadDeadline(time.Unix(1, 0)) // long ago: wakes the reader; fails only on a closed socket
	})
	frame, err := s.receive()
	if !stop() {
		<-woken // or its deadline would hit the next receiver
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return Frame{}, fmt.Errorf("receive frame on %s: %w", s.device, err)
	}
	return frame, nil
}

// Await waits for the first frame that match accepts and drops those before it.
func (s *Socket) Await(ctx context.Context, match func([]byte) bool) (Frame, error) {
	for {
		f, err := s.Receive(ctx)
		if err != nil || match(f.Bytes) {
			return f, err
		}
	}
}

func (s *Socket) receive() (Frame, error) {
	control := make([]byte, unix.CmsgSpace(auxSize))
	var n, nc int
	var from unix.Sockaddr
	var got error
	err := s.raw.Read(func(fd uintptr) bool {
		n, nc, _, from, got = unix.Recvmsg(int(fd), s.buffer, control, 0)
		return !errors.Is(got, unix.EAGAIN)
	})
	if err := errors.Join(err, got); err != nil {
		return Frame{}, err
	}
	f := Frame{Bytes: bytes.Clone(s.buffer[:n])}
	if s.options.VirtioHeader {
		if f.Header, err = decodeHeader(f.Bytes); err != nil {
			return Frame{}, err
		}
		f.Bytes = f.Bytes[headerSize:]
	}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		f.Outgoing = ll.Pkttype == unix.PACKET_OUTGOING
	}
	return f, f.auxiliary(control[:nc])
}

// struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid.
const (
	auxSize         = 20
	auxTCI, auxTPID = 16, 18
)

// auxiliary adds what the kernel says beside the frame.
func (f *Frame) auxiliary(control []byte) error {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return fmt.Errorf("read control message: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < auxSize {
			continue
		}
		status := binary.NativeEndian.Uint32(m.Data)
		f.Partial = status&unix.TP_STATUS_CSUMNOTREADY != 0
		if status&unix.TP_STATUS_VLAN_VALID == 0 || len(f.Bytes) < 12 {
			continue
		}
		tpid := uint16(unix.ETH_P_8021Q)
		if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tpid = binary.NativeEndian.Uint16(m.Data[auxTPID:])
		}
		f.putTag(tpid, binary.NativeEndian.Uint16(m.Data[auxTCI:]))
	}
	return nil
}

// putTag inserts a VLAN tag behind the addresses, and moves what the header counts
// from the start of the frame.
func (f *Frame) putTag(tpid, tci uint16) {
	if f.Header.NeedsChecksum {
		f.Header.ChecksumStart += 4
	}
	if f.Header.GSO != GSONone {
		f.Header.HeaderLength += 4
	}
	out := append([]byte(nil), f.Bytes[:12]...)
	out = binary.BigEndian.AppendUint16(out, tpid)
	out = binary.BigEndian.AppendUint16(out, tci)
	f.Bytes = append(out, f.Bytes[12:]...)
}
