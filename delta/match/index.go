package match

import (
	"encoding/binary"
	"math/bits"
)

// block is the size of the old blocks that the index knows.
const block = 16

// Find returns at most MaxCopies copies, and of those that begin in any Near bytes of the target at most MaxNear.
const (
	MaxCopies = 1 << 20
	MaxNear   = 1 << 17
	Near      = 8 << 20
)

// A Copy says that Len bytes of the target, from New on, are made from the old bytes from Old on. All three are in bytes;
// Len is more than 0.
type Copy struct{ New, Old, Len int64 }

// An Index finds blocks of old bytes by content. It is read-only after NewIndex and may be used by several goroutines.
type Index struct {
	old   []byte
	table []uint32 // block number + 1
	seen  []uint64 // a bit for each hash value of eight times as many as there are blocks: a table that stays in the cache
}

// NewIndex indexes old, which must not change while the index is in use. It takes 0.46 bytes per old byte. Bytes after the
// first 2^32-1 blocks (64 GiB) are not indexed.
func NewIndex(old []byte) *Index {
	n := min(len(old)/block, 1<<32-1)
	x := &Index{old: old, table: make([]uint32, n*8/5+2), seen: make([]uint64, n/8+1)}
	for i := range n {
		p := old[i*block : i*block+block]
		h := hash(p)
		s, b := x.slot(h), x.bit(h)
		x.seen[b>>6] |= 1 << (b & 63)
		if v := x.table[s]; v != 0 {
			if c := (int(v) - 1) * block; string(old[c:c+block]) == string(p) {
				continue
			}
			if s++; x.table[s] != 0 {
				continue
			}
		}
		x.table[s] = uint32(i + 1)
	}
	return x
}

// hash mixes the 16 bytes that p begins with.
func hash(p []byte) uint64 {
	a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	h := a*0x9e3779b97f4a7c15 ^ (b*0xc2b2ae3d27d4eb4f + 0x165667b19e3779f9)
	return (h ^ h>>29) * 0x9e3779b97f4a7c15
}

// slot returns the first of the two slots in which a block of hash h may be.
func (x *Index) slot(h uint64) int {
	hi, _ := bits.Mul64(h, uint64(len(x.table)-1))
	return int(hi)
}

// bit returns a hash's bit in seen.
func (x *Index) bit(h uint64) uint {
	bit, _ := bits.Mul64(h, uint64(len(x.seen)*64))
	return uint(bit)
}

// lookup returns the place of an old block equal to the first bytes of p, or -1.
func (x *Index) lookup(p []byte) int {
	h := hash(p)
	if b := x.bit(h); x.seen[b>>6]>>(b&63)&1 == 0 {
		return -1
	}
	s := x.slot(h)
	for _, v := range x.table[s : s+2] {
		if v == 0 {
			return -1
		}
		c := (int(v) - 1) * block
		if string(x.old[c:c+block]) == string(p[:block]) {
			return c
		}
	}
	return -1
}

// equal returns how many bytes a and b have in common at their start.
func equal(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
