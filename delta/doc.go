// Package delta makes and applies binary deltas between blobs, bit for bit. It works on bytes and knows nothing of images.
//
// # What Make does
//
//  1. Unwrap. A target that is a gzip or zstd file is taken apart into its plain bytes and a recipe that turns them back
//     into the same file, see package recipe; compressed bases are unpacked. Where no recipe is found the target is coded
//     as it is, against bases as they are.
//  2. Split. Plain bytes that are a tar archive are split into members, headers and padding; safetensors, GGUF and ONNX
//     files, alone or in a tar, into tensors; a file of floats without a layout is taken for one run of weights.
//  3. Pair. A member or tensor whose bytes are those of one in any base is a copy. A changed one is paired by its name, then
//     by its name without folder and version numbers, tensors also by type, size and a sample; weights without names are
//     aligned by their signs and exponents (package tensor); everything else is found by hashes of 16-byte blocks
//     (package match).
//  4. Code. Paired weights are coded by package tensor; executables, each with a map of its own, and runs of other pieces
//     by package diff; each segment alone by zstd, or as it is, where that is smaller; small blobs also by bsdiff.
//  5. Prove. Make applies what it made and compares digests before it returns.
//
// Segments have at most 8 MiB of plain bytes and are decoded independently of each other, so Apply works on several at once
// in bounded memory. Places and sizes have 64 bits. Bases of more than MakeOptions.Window bytes are searched window by window;
// pairs of tensors and executables are found whatever their distance.
//
// # File
//
// All fixed numbers are little-endian. A uvarint is that of encoding/binary.
//
//	magic      8   "WCDELTA2"
//	length     4   of the fields up to the checksum, at most 65536
//	uses       1   bit 0: records of kind 1 and 2; bit 1: of kind 3; bit 2: of kind 4
//	form       1   how the target is wrapped: 0 not, 1 gzip, 2 zstd (the numbers of package recipe)
//	model      2   of the recipe; 0: the plain bytes are the target
//	codec      1+n length and printable ASCII, for people
//	target     8   size, then 32 bytes SHA-256
//	plain      8   size of the plain bytes; the target's if model is 0
//	maxPlain   4   largest segment in plain bytes, at most 8 MiB
//	maxRecord  4   largest record between its length and checksum, at most 8 MiB + 64 KiB
//	maxPart    4   largest decoded recipe part, at most 16 MiB
//	maxCopies  4   most copies of a map, at most 2^20
//	bases      2   count, at most 1024, and for each: size 8, SHA-256 32, form 1, plain size 8 (the size if form is 0)
//	checksum   4   CRC-32C of all before it
//
// The bases, unpacked where their form says so, are one run of bytes in the order given. Records follow until the end of the
// file. The segments' plain bytes, in order, are the plain bytes; their sizes add up to plain.
//
// # Records
//
// A record is: kind 1, length 4 of what lies between it and the checksum, fields, body, and a CRC-32C of all of these. All
// fields are uvarints.
//
//	kind        fields              body
//	1 map       plain               a map of package diff: of the group of segments that follow, plain bytes in all
//	2 diff      plain               a segment of package diff, in the group of the last map
//	3 tensor    plain, type, old+1  a block of package tensor, plain at most 4 MiB; old 0: the base is zeros
//	4 zstd      plain               zstd frames, by themselves
//	5 raw       plain               the bytes
//	6 bsdiff    plain, old, span    a BSDIFF40 patch of the span base bytes at old; bytes outside may not be added to
//	7 copy      plain, old          none: plain base bytes from old on, of any number
//	8 part      plain, size         a zstd frame of size bytes: the part of the recipe for the next plain bytes
//	9 names     size                a zstd frame of size bytes, at most 8 MiB: for each stretch of the plain bytes its size,
//	                                the length of its name and the name. Apply ignores it.
//
// A group's segments are of kind 2, 4 or 5 and fill it. A map may not stand inside a group. A part stands before the first
// segment that begins where the part begins or later; its plain bytes may be more than have been read.
//
// # What is refused
//
// Apply checks sizes against the header and the header against Limits before it takes memory, takes memory for a record only
// as its bytes arrive, checks the bases' digests before it unpacks or uses them, and returns an error unless the output has
// the target's digest. Output beyond the header's size is never written. The work for one plain byte is bounded by the longest search
// of a recipe's model, 4096 candidates. No floating point decides a bit. A decoder of a kind that the header's uses does
// not name is not run, so that Header.Memory holds.
//
// Deltas of version 1 (magic "WCDELTA1") were never released and are refused.
package delta
