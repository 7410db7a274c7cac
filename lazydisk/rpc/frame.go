package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// A frame is, with big-endian numbers:
//
//	kind    1 byte
//	op      1 byte   the requested operation
//	status  1 byte   of a reply
//	zero    1 byte
//	length  4 bytes  the length of the body
//	id      8 bytes  the request that it belongs to
//	arg     8 bytes  the argument of a request
//	body
const (
	headerSize = 24
	// maxBody is the size of a block with room for its description.
	maxBody = block.Size + 4096
)

// The kinds of frames.
const (
	kindRequest = iota + 1
	kindReply
	// kindCancel ends a request whose reply is no longer wanted.
	kindCancel
)

// The status of a reply.
const (
	statusOK = iota
	statusFailed
	// statusPermanent is an error that wraps block.ErrPermanent.
	statusPermanent
)

// Op is an operation.
type Op uint8

type frame struct {
	kind, status uint8
	op           Op
	length       int
	id           uint64
	arg          int64
}

// errFrame is wrapped by errors about bytes that are not a frame.
var errFrame = errors.New("invalid frame")

// encode returns the header of the frame.
func (f *frame) encode() []byte {
	b := make([]byte, headerSize)
	b[0], b[1], b[2] = f.kind, uint8(f.op), f.status
	binary.BigEndian.PutUint32(b[4:], uint32(f.length))
	binary.BigEndian.PutUint64(b[8:], f.id)
	binary.BigEndian.PutUint64(b[16:], uint64(f.arg))
	return b
}

// readFrame reads the header of a frame. The body follows.
func readFrame(r io.Reader) (frame, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return frame{}, err
	}
	f := frame{
		kind: b[0], op: Op(b[1]), status: b[2],
		length: int(binary.BigEndian.Uint32(b[4:])),
		id:     binary.BigEndian.Uint64(b[8:]),
		arg:    int64(binary.BigEndian.Uint64(b[16:])),
	}
	if f.kind < kindRequest || f.kind > kindCancel || f.status > statusPermanent || b[3] != 0 || f.length > maxBody {
		return frame{}, fmt.Errorf("%w: kind %d, status %d, %d bytes", errFrame, f.kind, f.status, f.length)
	}
	return f, nil
}
