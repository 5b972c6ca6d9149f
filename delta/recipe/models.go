package recipe

import "strconv"

// Tree rules, see huffman.go.
const (
	treeHeap  = iota // zlib family
	treeMerge        // Go
)

// Hashes that lead to earlier strings. They matter because strings that collide use up the search.
const (
	hashShift15 = iota // three bytes, shifted by 5, 15 bits
	hashShift16        // three bytes, shifted by 6, 16 bits
	hashRabin          // four bytes, 15 bits
	hashGo             // four bytes, 17 bits
)

// Model is the number of the rules by which one writer at one level chooses tokens. Models are frozen: a number means the
// same rules for ever, new rules get new numbers. 0 is no model.
type Model uint16

// String is the name of the writer and level, for people.
func (m Model) String() string {
	if z := m.zstdLevel(); z != 0 {
		return "klauspost-zstd-1.20-" + z.String()
	}
	if r := m.rules(); r != nil {
		return r.name
	}
	return "none"
}

// rules are what a model's number stands for.
type rules struct {
	name  string
	tree  int  // how code lengths are made
	plan  int  // which search
	share bool // a block may go on where it could end, with the code of its first piece
	full  bool // a header has all code lengths, unless the block has no match or the writer flushes after it
	block int  // tokens per block; 0: no limit

	// The parameters of the searches, see chains, fast and lazy.
	hash     int
	minLen   int
	good     int // a match of this length at the byte before quarters the search; 0: never
	lazy     int // no search after a match of at least this length; 0: no looking ahead at all
	nice     int // a match of this length ends the search
	chain    int // candidates looked at
	insert   int // without looking ahead: longest match whose inner strings are inserted
	maxDist  int
	sliding  bool // Go: history is also cut where the writer's 64 KiB window begins
	level    int  // fast: 1 to 6, 0 for no search at all
	unit     int  // fast: plain bytes of a unit
	period   int  // the writer begins anew after so many plain bytes; 0: never
	dict     int  // and then may look back so far
	rolling  bool // chains: a period ends with a hit of a rolling hash, see chains.piece
	literals int  // lazy: plain bytes whose literal costs matches are weighed by; 0: not weighed
}

// Searches.
const (
	planNone  = iota // chains
	planUnits        // goUnits
	planFast
	planLazy
)

type level struct{ good, lazy, nice, chain, insert int }

// zlibLevels are the levels 1 to 9 of the zlib family.
var zlibLevels = [10]level{
	1: {4, 0, 8, 4, 4}, 2: {4, 0, 16, 8, 5}, 3: {4, 0, 32, 32, 6},
	4: {4, 4, 16, 16, 0}, 5: {8, 16, 32, 32, 0}, 6: {8, 16, 128, 128, 0},
	7: {8, 32, 128, 256, 0}, 8: {32, 128, 258, 1024, 0}, 9: {32, 258, 258, 4096, 0},
}

// goLevels are the levels 2 to 9 of compress/flate up to Go 1.26. It has a good length but never acts on it.
var goLevels = [10]level{
	2: {0, 0, 16, 8, 5}, 3: {0, 0, 32, 32, 6},
	4: {0, 4, 16, 16, 0}, 5: {0, 16, 32, 32, 0}, 6: {0, 16, 128, 128, 0},
	7: {0, 32, 128, 256, 0}, 8: {0, 128, 258, 1024, 0}, 9: {0, 258, 258, 4096, 0},
}

// lazyLevels are the levels 7 to 9 of klauspost/compress.
var lazyLevels = [10]level{7: {0, 12, 16, 24, 0}, 8: {0, 30, 40, 64, 0}, 9: {0, 258, 258, 1024, 0}}

// Families; a model's number is the family's plus the level.
const (
	famGo     Model = 100 // Go's compress/flate up to 1.26, levels 1 to 9
	famZlib   Model = 200 // zlib with its default memory, and GNU gzip, levels 1 to 9
	famZlib9  Model = 210 // the same with memLevel 9
	famRabin  Model = 220 // zlib with a four-byte hash, levels 1 to 9
	famPigz   Model = 230 // pigz, levels 1 to 9
	famPigzR  Model = 240 // pigz --rsyncable
	famPigzI  Model = 250 // pigz --independent
	famKp     Model = 300 // klauspost/compress, and Go from 1.27 on, levels 1 to 9; 0 is Huffman only
	famKpOld  Model = 310 // klauspost/compress 1.15.15 to 1.17.11, levels 1 to 9
	famPgzip  Model = 320 // pgzip on klauspost/compress, levels 1 to 9; 0 is Huffman only
	famPgzOld Model = 330 // pgzip on klauspost/compress 1.15.15 to 1.17.11, levels 1 to 9
	modStored Model = 400 // stored blocks of 65535 bytes

	zlibMaxDist = 1<<15 - 262
)

// rules returns what the number stands for, or nil.
func (m Model) rules() *rules {
	if m == modStored {
		return &rules{name: "stored", tree: treeMerge, plan: planFast, unit: unitSize}
	}
	fam, n := m/10*10, int(m%10)
	switch fam {
	case famGo:
		return goRules(n)
	case famZlib, famZlib9, famRabin, famPigz, famPigzR, famPigzI:
		return zlibRules(fam, n)
	case famKp, famKpOld, famPgzip, famPgzOld:
		return kpRules(fam, n)
	}
	return nil
}

func (r *rules) set(name string, n int, l level) *rules {
	r.name = name + "-" + strconv.Itoa(n)
	r.good, r.lazy, r.nice, r.chain, r.insert = l.good, l.lazy, l.nice, l.chain, l.insert
	return r
}

func goRules(n int) *rules {
	if n < 2 {
		if n == 1 {
			return &rules{name: "go-1", tree: treeMerge, plan: planUnits}
		}
		return nil
	}
	r := &rules{tree: treeMerge, hash: hashGo, minLen: 4, maxDist: 1 << 15, sliding: true, block: 1 << 14}
	return r.set("go", n, goLevels[n])
}

func zlibRules(fam Model, n int) *rules {
	r := &rules{hash: hashShift15, minLen: 3, maxDist: zlibMaxDist, block: 1<<14 - 1}
	name := "zlib"
	switch fam {
	case famZlib9:
		name, r.hash, r.block = "zlib-mem9", hashShift16, 1<<15-1
	case famRabin:
		name, r.hash = "zlib-rabin", hashRabin
	case famPigz:
		name, r.period, r.dict = "pigz", 128<<10, ringSize
	case famPigzR:
		name, r.period, r.dict, r.rolling = "pigz-rsyncable", 128<<10, ringSize, true
	case famPigzI:
		name, r.period = "pigz-independent", 128<<10
	}
	if n == 0 {
		return nil
	}
	return r.set(name, n, zlibLevels[n])
}

func kpRules(fam Model, n int) *rules {
	r := &rules{tree: treeMerge, share: true, plan: planFast, level: n, unit: unitSize}
	name := "klauspost"
	if fam == famPgzip || fam == famPgzOld {
		name, r.period, r.dict = "pgzip", 1<<20, 16<<10
	}
	if n == 0 {
		r.unit = ringSize
	}
	if n >= 7 {
		r.plan, r.block = planLazy, 1<<15
	}
	if n == 9 {
		r.literals = ringSize
	}
	if fam == famKpOld || fam == famPgzOld {
		name, r.full = name+"-old", true
		if n == 0 {
			return nil
		}
		if n == 9 {
			r.literals = 2 * ringSize
		}
	}
	return r.set(name, n, lazyLevels[n])
}

// models lists all models, the most common writers first.
func models() []Model {
	return []Model{106, 101, 335, 325, 331, 321, 306, 301, 305, 315, 311, 206, 209, 109, 236, 239, 246, 309, 226, 229, 316, 326, 336,
		102, 103, 104, 105, 107, 108, 201, 202, 203, 204, 205, 207, 208,
		302, 303, 304, 307, 308, 312, 313, 314, 317, 318, 319, 322, 323, 324, 327, 328, 329, 332, 333, 334, 337, 338, 339, 300, 320, 400,
		216, 219, 211, 212, 213, 214, 215, 217, 218, 221, 222, 223, 224, 225, 227, 228,
		231, 232, 233, 234, 235, 237, 238, 241, 242, 243, 244, 245, 247, 248, 249,
		251, 252, 253, 254, 255, 256, 257, 258, 259}
}
