// Package afpacket puts whole frames on a network device and takes them off it
// (AF_PACKET sockets), with the virtio header that says what the kernel knows of a
// frame beyond its bytes: a checksum left to the device, or a super-packet (GSO).
//
// A socket belongs to the network namespace of the thread that opens it, and works
// from any thread afterwards; open it inside lab.Host.Do.
//
// Why a package of its own, beside packet: this one needs root and a device, that
// one needs nothing.
package afpacket
