// Package diff codes a new executable, or any new file, as copies of old bytes and what the copies get wrong. Most of what
// differs in a rebuilt executable are addresses; the copies tell how code and data moved, so the addresses are foretold from
// them and only what was foretold wrongly is written.
//
// A group of target bytes has one Map. Its bytes are cut into segments of at most MaxSegment bytes, each of which is read
// with the map and the old bytes alone. Map.Layout puts the old bytes of the copies at the places of the target's; that is
// the base of a segment. Numbers called uvarint are those of encoding/binary; fields of executables are little-endian.
//
// # Arithmetic coding
//
// An interval [low, high] of 32 bits begins as [0, 2^32-1]. A bit whose probability of being one is p/65536 splits it at
// mid = low + (high-low)*p>>16: a one takes [low, mid], a zero [mid+1, high]. While both ends have the same upper byte, it
// is written, and both move up by 8 bits, with zeros into low and ones into high. The end writes the upper 16 bits of high.
// A reader begins with four bytes, takes bytes after the end as zero, and refuses to need more than two of them.
//
// An adaptive bit has a probability p that begins at 32768. After a one p grows by (65504-p)>>4, after a zero it falls by
// (p-32)>>4 (as 16-bit numbers). An adaptive number v below 2^62 is coded as the length of v+1 in bits less one, six bits
// from the highest, each with the adaptive bit of the ones before it; then the other bits of v+1 from the highest: the first
// three with the adaptive bit of that length and of the ones before, later ones with the adaptive bit of their place.
// zigzag(v) is v<<1 for v not below 0, else -2v-1.
//
// # The map
//
// One arithmetic code with six adaptive numbers gap, size, old, off, addr, length. For the old side, then the new:
//
//	gap     count of loads, at most MaxLoads; then for each
//	off     zigzag(Off - end of the load before in the file)
//	addr    zigzag(Addr-Off, less the same of the load before)
//	length  Len
//
// Then gap codes the count of copies, at most match.MaxCopies, and for each: gap, New less the end of the copy before; size,
// Len; old, zigzag(Old-New, less the same of the copy before). What is before the first is zero. Refused: loads and
// copies outside the file, or that overlap or go back in it (copies in the new one); addresses beyond 2^60; copies without
// bytes; more than match.MaxNear copies that begin in match.Near bytes.
//
// # Where old addresses go
//
// Copies are sorted by Old (ties by New). One that ends no further than the one kept before is dropped; one that overlaps it
// cuts it short if longer than it, else loses its own beginning. For each old load of some length and each remaining copy
// in it, the first address in both moves to the address of the byte's new place, if that is in a new load, and so do all
// after it up to the next such address. The k-th old load without length moves to the k-th new one. Addresses
// from 2^40 on belong to sections that are not in memory and have a table of their own. An address counts as one only if
// it is not below the lowest old load nor 2^26 or more above the highest end (for the second table: nor above it). Before
// the first entry its movement holds too.
//
// # Rules
//
// The base is cut into runs: parts of copies, cut at the bounds of old and new loads, in which addresses move alike. The
// segment is cut into pages of 4096 bytes, each with a rule. A field is foretold if it lies wholly in one run and one page;
// "its place" is counted from the beginning of the group. t moves to t+move(t).
//
//	0  nothing
//	1  x86: four bytes after E8, E9, 0F 80 to 0F 8F, or a byte whose bits C7 are 05, relative to the byte after them; they
//	   grow by move(t) less the run's movement; the search goes on after a field found
//	2  words: eight bytes at places that are multiples of 8
//	3  fields: four bytes at places that are multiples of 4, relative to even where the place is a multiple of 8, else to odd:
//	   0 no field; 1 the field's own address; 2 zero; 3+k the address of old load k; signed, but for 2
//	4  rule 2 where the eight bytes are an address other than 0, else rule 3
//	5  records of .eh_frame, see frames
//	6  function records of Go programs, see funcs; even is the code, odd the function data, as in rule 3
//
// The rules of a segment are one arithmetic code: an adaptive bit, of four by the last two such bits, that is zero if the
// rule is the last one (at first 0), else the rule in one adaptive number, then for rules 3, 4 and 6 even and odd in one each.
//
// # A segment
//
//	codec 1   0 the base as it is; 1 gaps; 2 context mixing
//	rules     for 1 and 2: uvarint length and the code above
//
// Codec 1 goes on with three streams: gaps, differences, extra. Each is a uvarint length, the uvarint length of a zstd frame or
// 0 for none, and that frame or the bytes. Gaps are uvarints: bytes foretold rightly before the next difference, counted
// over all runs; a difference is added to what was foretold, modulo 256; extra is what no copy makes.
//
// Codec 2 goes on with one arithmetic code: the runs in their order, during which the bytes that no copy makes count as zeros,
// and then those, byte by byte. A run is coded in groups of 64 bytes from its beginning: a flag whether the group has a miss (a byte foretold
// wrongly); if so, one for each 16 bytes of it; and in each such part with a miss, one for each byte, and after it the byte if it
// is a miss. A flag is not coded where it must be set: for the last part of a group and the last byte of a part, if none
// before it is set.
//
// # Mixing
//
// A bit is foretold by logistic regression on what eight contexts remember. A context remembers, in a state, how many zeros
// and ones came in it, the last ones most: a count grows by one, and of more than two of the other kind a third remain, rounded
// down, beside two. A state holds (zeros, ones) if the larger is at most 48, 28, 16, 10, 7 or 6 where the smaller is 0 to 5;
// else first the other kind and then, where there is none or the new count is over 48, the new count is made less, by ones,
// until it does. States are numbered by their sum, those of one sum by their zeros; 0 is (0, 0).
//
// squash and stretch are the tables of tables.go: squash(d) is 65536/(1+e^(-d/256)), straight between multiples of 64 and away
// from 0 and 65536 by 12; stretch of q (12 bits) the first d with squash(d) not below 16q+8. Each state of each context has
// a say, 32 bits, which begins as 20000 stretch((2 ones+1)2048/(zeros+ones+1)). With the sum of the eight says, modulo 2^32
// and signed, shifted right by 16, p is squash(sum). After the bit, each of the eight grows by (65536 bit-p)/16, rounded
// towards zero, times the model's rate; then the states change. Says come in sets, one of which is used for a bit.
//
// Flags of groups and parts have 2^14 states, rate 40 and a set each; those of bytes up to 2^18 (for short segments as many
// bits as len/4 has, at least 10), rate 64 and a set for each of whether the byte before was a miss and whether the byte was
// foretold to change. A byte is coded from its highest bit, in halves: a set for each bit, and 15 states, a line, for
// each half of each context. Misses have up to 2^15 lines and sets for each of the first four bytes of a miss, bytes without
// copies up to 2^16 lines and sets for whether a match foretells them; rate 160. The first two contexts, nothing and
// one byte, have lines of their own; a line of the others has a check, and gives way as in second in mixer.go. The hashes are
// those of look and octet there.
//
// The contexts, in their order, are the lists in these functions of mix.go, which are part of the format: group for groups and
// parts (past flags, bytes since a miss, the page's rule, base bytes); flag for bytes (past flags near and at distances 4 to 24,
// base bytes, the four base bytes where the misses began and the address to which they lead); value for misses, coded as the
// difference from what was foretold (past differences near and at distances 4 and 8, the same field and address, the byte
// that followed the last three bytes before); literal for bytes without copies (one to four and six bytes before, two bytes
// before the last, the byte that a match foretells). A match is the last place noted for a hash of five bytes, of at least
// five bytes; places are noted at each byte without a copy and each fourth byte of a run, in the order of the target.
// A change to a context or constant is another codec with another number.
//
// # Limits
//
// A Decoder holds at most DecodeMemory bytes: runs (6 MiB), three streams (32 MiB), what was foretold (8 MiB) and models (4 MiB).
// A Map holds about 100 bytes for a copy. The work for a byte is bounded. Corrupt input is an error
// that wraps ErrCorrupt, or other bytes: a caller checks a digest. No floating point decides a bit.
package diff
