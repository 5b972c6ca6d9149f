// Package tensor knows where the weights of a model lie in its file, codes new weights as differences from old ones, and
// finds the old ones where no names help. Everything is bit for bit; no floating point decides a bit.
//
// Layout reads safetensors, GGUF and ONNX. Align and Guess are for files that have no such layout. A Coder turns up to
// MaxBlock bytes of new weights into a payload, and back with the old weights of the same length. The rest of this comment
// is the format of a payload. Type numbers go into deltas and never change.
//
// # Payload
//
// Numbers are little-endian; a uvarint is that of encoding/binary. The first byte is a form: 0, the target follows as it is;
// 1, the target is the base; 2, blocks follow, and then the target's last bytes that do not fill an element. Nothing may
// follow. The elements of a type have the sizes that Type.Element gives.
//
// A block covers the next elements: 131072 for types of 1, 2 and 4 bytes and for Bytes, 32768 for types of 8 bytes,
// 4096 for blocks of 32 quants, 512 for blocks of 256, or what is left. Its first byte is a form, plus 128 if a uvarint
// follows with a smaller count of elements, not 0. Forms:
//
//	0  the target is the base
//	1  differences, see below for each type
//	2  planes: the target alone, one stream for each byte of a number, lowest first; blocks of quants are one plane,
//	   in streams of at most 131072 bytes. Floats of 2, 4 and 8 bytes are rotated left by one bit first
//	3  lanes with a new model, and 4, lanes with the model of the last block of form 3: BF16, F16 and F32 only
//	5  differences with classes of runs: BF16, F16 and F32 only
//
// # Streams
//
// A stream of n symbols, which are bytes; both sides know n, and a stream of none has no bytes. Its first byte is a method:
//
//	0  the symbols follow
//	1  one byte follows, which all symbols are
//	2  uvarint length, then a Huffman table and one bit stream as in RFC 8878 sections 4.2.1 and 4.2.2
//	3  the same with four bit streams behind a jump table, RFC 8878 section 3.1.1.3.1.6
//	4  uvarint length, then an FSE table and bit stream, RFC 8878 section 4.1, with two states that take turns
//	5  two symbols in a byte, the first one in the lower 4 bits: a uvarint count of escapes, at most n; their stream; the
//	   stream of the bytes, half of n rounded up. A part of 15 stands for the next escape. What is left of the last byte is
//	   not looked at. Methods 5 to 7 may not be in either of these streams, but for 5 in that of the escapes, whose own
//	   streams have none of them
//	6  the same with four symbols in a byte, 2 bits each, and 3 for an escape
//	7  the same with eight symbols in a byte, 1 bit each, and 1 for an escape
//
// # Sorted streams
//
// Symbols that have keys, bytes which both sides know, are sorted by key, stably. The run is cut into streams of whole keys:
// one byte, count of streams minus 1; the last key of each stream but the last, ascending; the streams.
//
// # Differences
//
// The ordered form of a float of w bits is all bits inverted if the sign is set, else the sign set. The difference of target
// and base modulo 2^w as a signed number, negated if the base's sign is set, makes a positive one lead away from zero. Its
// zigzag is 2d for d of at least 0, else -2d-1.
//
// BF16, F16 (D = 32) and F32 (D = 16): uvarint count of low bits, the low bits, sorted streams. The key is the base's
// exponent field. A zigzag below D is its own symbol. Else, with m the absolute difference, o the place of m's highest bit
// and p that of D/2: the symbol is D + 8(o-p) + 2s + n, where s are the two bits below the highest and n is 1 for a negative
// difference. The o-2 bits below those are the low bits of the element. They follow each other in the order of the elements,
// lowest bit first, padded with zeros to a byte.
//
// Form 5 has, between the low bits and the sorted streams, one byte, the low exponent, and a stream of the classes of the
// runs: 256 elements each, the last one what is left. The key is 16 times the class, modulo 256, plus the base's exponent
// field minus the low exponent, limited to 0 to 15. Rows that were trained more than others have other classes.
//
// F8E4M3, F8E5M2: sorted streams; the symbol is the zigzag, the key the base's exponent field. I8: the same with the
// difference of the two's complement values, negated if the base is negative; the key is the base's absolute value shifted
// right by 3. Bytes: the difference modulo 256; the key is 0.
//
// I16, I32, I64, F64: the zigzags of the differences, ordered for F64, not negated, in byte planes, lowest first, one stream
// each.
//
// Quants: the fields of the elements one after the other, each gathered from all elements of the block: the scales first,
// then the others in the order of the table quantFields in quant.go. Scales are coded as F16. The class of an element
// is the count of bits of the zigzag difference of its first scale, at most 15. The others are sorted streams with the class
// times 16 in the key. Nibbles, lower first: the symbol is the difference modulo 16, the key has the base's nibble added.
// Signed bytes: symbols as for I8, the key has its key added, at most 15. Other bytes: symbols as for Bytes.
//
// # Lanes
//
// Tensors that were trained anew change by a factor for each output, and some outputs more than others. A model has uvarint
// L lanes, 1 to 4096; uvarint R, 1 to 131072; then three streams of L symbols: the lower and the upper bytes of the zigzags
// of the factors, which are signed 16-bit numbers, and the classes of the lanes. Element e after the model is in lane e/R
// modulo L. A row is L times R elements.
//
// Then, with the new or the last model, and e going on from the last block of form 3 or 4: a stream of the classes of the
// rows that the block touches; one byte, the low exponent; and, as for the types above, low bits and sorted streams. The key
// is 16 times the class of the lane plus that of the row minus 8, and the base's exponent field minus the low exponent, both
// limited to 0 to 15. The difference is taken from a prediction instead of the base. With x the base, m its bits without the
// sign, b the bits of its mantissa, f the factor: s is the mantissa field, plus 2^b unless the exponent field is 0. d is sf/4096
// rounded down. Unless the exponent field is 0, half of what s+d is over 2^(b+1), rounded up, is taken off d, and what s+d is
// below 2^b, d being the one before both corrections. The prediction's ordered form is m+d with the sign set, or all bits of
// that inverted if x is negative, modulo 2^w.
//
// # What is refused
//
// Decode gives an error for streams that do not fill their symbols, fields of other lengths, keys out of order, counts out
// of range, low bits of another count and bytes left over. Work and memory are bounded by the base's length and CoderMemory
// whatever the payload says. A payload has no checksum of its own: damage may also give wrong bytes.
package tensor
