package recipe

import "encoding/binary"

// Records of a part's event stream; doc.go has the format.
const (
	evVerbatim = 0x01
	evMember   = 0x02
	evTrailer  = 0x03
	evMore     = 0x04
	evBlock    = 0x80

	blkKind   = 3 // as deflate says it; 3: the block before goes on
	blkFinal  = 1 << 2
	blkHead   = 1 << 3 // the header is as predicted
	blkLength = 1 << 4 // the block ends where the writer may end one
	blkPad    = 1 << 5 // a byte of padding bits follows
	blkOther  = 1 << 6 // stored: not simulated; else: literals only
)

// What one part may hold, so that a hostile one cannot buy much work with few bytes.
const (
	minPart        = 4 << 20 // plain bytes after which a part ends with the block
	maxPartMembers = 1 << 16
	maxSimulated   = 2 * MaxPart
)

// partStreams are the four streams of one part.
type partStreams struct {
	events, misses, heads, verbatim []byte
}

// pack joins the streams, each behind its length.
func (p *partStreams) pack() []byte {
	var out []byte
	for _, s := range [][]byte{p.events, p.misses, p.heads, p.verbatim} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

func (p *partStreams) size() int {
	return len(p.events) + len(p.misses) + len(p.heads) + len(p.verbatim)
}

func unpackPart(b []byte) (p partStreams, err error) {
	for _, s := range []*[]byte{&p.events, &p.misses, &p.heads, &p.verbatim} {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return p, corrupt("part too short")
		}
		*s, b = b[k:k+int(n)], b[k+int(n):]
	}
	if len(b) != 0 {
		return p, corrupt("part too long")
	}
	return p, nil
}

// uvarint reads a number of at most limit from s.
func uvarint(s *[]byte, limit uint64) (uint64, error) {
	v, k := binary.Uvarint(*s)
	if k <= 0 || v > limit {
		return 0, corrupt("number missing or out of range")
	}
	*s = (*s)[k:]
	return v, nil
}
