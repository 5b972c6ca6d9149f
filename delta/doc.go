// Package delta makes and applies binary deltas between blobs, bit for bit. It works on bytes and knows nothing of images.
//
// # What Make does
//
// A target that is a gzip file is taken apart into its plain bytes and a recipe that turns them back into the same gzip
// file; gzip bases are gunzipped. The plain bytes are then coded in segments as copies from the bases, differences from
// those copies, and extra bytes. Tried and kept when smaller: element differences of float arrays, byte planes, bsdiff for
// pairs of at most 8 MiB, one zstd frame where the bases help little, and the target as it is where a recipe does not
// pay. Make applies what it made before it returns it.
//
// # File
//
// All numbers are little-endian. A uvarint or varint is that of encoding/binary.
//
//	magic      8   "WCDELTA1"
//	length     4   of the fields up to the checksum, at most 65536
//	layout     1   0: segment records follow; 1: one zstd frame follows
//	model      1   0: the plain bytes are the target; else the model of the gzip recipe
//	codec      1+n length and printable ASCII, for people
//	target     8   size, then 32 bytes SHA-256
//	plain      8   size of the plain bytes; the target's if model is 0; at most about 1100 times the target's
//	segments   4   count
//	maxPlain   4   largest segment in plain bytes, at most 16 MiB
//	maxRecord  4   largest record, at most 24 MiB
//	maxStreams 4   largest sum of a segment's decoded streams, at most 24 MiB
//	bases      2   count, at most 1024, and for each: size 8, SHA-256 32, plain size 8 if the base is to be gunzipped
//	               (all members, one after the other), else eight bytes ff
//	checksum   4   CRC-32C of all before it
//
// The bases, gunzipped where marked, are one run of bytes in the order given; places in it are 64-bit. Nothing may follow
// the last segment. Memory and scratch of Header are computed from these fields, see Header.memory.
//
// # Layout 0: records
//
// Each record is its length (4), the record, and its CRC-32C (4). A record is: kind 1, difference mode 1, plain size 4, then
// for the streams control, gaps, differences, extra and recipe: method 1, decoded size 4, encoded size 4; then the five
// encoded streams. Methods: 0 stored; 1 zstd frames; 2 and 3 zstd frames of the bytes split into 2 or 4 planes: byte k of
// every element in the k-th stretch, what does not fill an element last.
//
// Kind 0: control holds copies, at most 2^20: uvarint bytes to take from extra first, uvarint length of the copy (not 0),
// varint place minus the end of the copy before (0 at first). After the last copy the rest of extra follows. Then the
// differences are added to the copied bytes, modulo 256, in order:
//
//	mode 0   gaps: uvarint equal bytes before the next difference; one byte of differences for each gap
//	mode 1   one byte of differences for each copied byte
//	mode 2   elements of 2 bytes with exponents of 8 bits at bit 7 (bf16)
//	mode 3   elements of 2 bytes with exponents of 5 bits at bit 10 (fp16)
//	mode 4   elements of 4 bytes with exponents of 8 bits at bit 23 (fp32)
//
// In modes 2 to 4 the whole elements inside a copy are those at places of the plain bytes that are multiples of the width;
// a copy's other bytes are edges. The stream holds the edges' byte differences, then one plane per byte of an element,
// lowest first. Inside a plane the elements are sorted by the exponent of the base's element, then by place. A plane's value
// is the zigzag of the difference of the ordered elements, modulo the width. Ordered: all bits inverted if the sign is set,
// else the sign set.
//
// Kind 1: extra is a BSDIFF40 patch from all bases to the segment; bytes outside the bases may not be added to.
//
// # Layout 1: one frame
//
// One zstd frame, window at most 32 MiB, of: plain size 4, recipe size 4, recipe, plain bytes, for each segment.
//
// # Recipes
//
// A segment's recipe part describes the gzip file's bytes that belong to the segment's plain bytes. It is four streams,
// each behind its uvarint length: events, misses, heads, verbatim. Events:
//
//	01 uvarint        so many bytes of verbatim go out: gzip headers, trailers, what follows the last member
//	02 uvarint        a deflate stream begins, with so many plain bytes; the predictor starts anew
//	80..ff            a block. Bits 0-1 kind of RFC 1951; bit 2 final; bit 3 header as predicted; bit 4 length as
//	                  predicted, else a uvarint follows: tokens, or bytes of a stored block; bit 5 a byte of padding bits
//	                  follows (after a stored block's header or the final block), else they are zero; bit 6 see below
//
// In a block the predictor names each token; misses holds uvarint tokens foretold rightly before the next miss in this part,
// then the token: 0 for the literal, or uvarint length-2 and uvarint distance. With bit 6 all tokens are literals
// and nothing is predicted. For a stored block the predictor first runs freely to where the block would end, at
// most 65535 bytes on; with bit 6 it does not; then it goes on at the block's true end. heads holds for a dynamic block
// whose header was not predicted its uvarint length and its spelling, one byte per field: HLIT, HDIST, HCLEN, the code
// length code lengths, the code length symbols each with its extra bits. At most 65536 streams may begin, and 32 MiB
// be simulated, in one part.
//
// # Models
//
// A model's number means the same rules for ever; new rules get new numbers. 11 to 19: Go's compress/flate up to 1.26,
// levels 1 to 9. 21 to 29: zlib and GNU gzip, levels 1 to 9; 31 to 39: the same with memLevel 9; 44 to 49: zlib with a
// four-byte hash. gz_models.go has the parameters, gz_chains.go and gz_units.go the token rules, gz_huffman.go the tree
// rules. None of it uses an encoder of the standard library or of a dependency, whose output an update may change.
//
// # What is refused
//
// Apply checks sizes against the header and the header against Limits before it takes memory, checks the bases' digests
// before it uses them, and returns an error unless the output has the target's digest. The work for one plain byte is
// bounded by the longest search of a model, 4096 candidates. No floating point decides a bit.
package delta
