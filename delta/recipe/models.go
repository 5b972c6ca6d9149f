package recipe

// Tree rules, see gz_huffman.go.
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
	if r := m.rules(); r != nil {
		return r.name
	}
	return "none"
}

// rules are what a model's number stands for.
type rules struct {
	name string
	tree int

	unit    bool // Go's level 1: units of 65535 bytes, one candidate per hash; nothing below matters
	hash    int
	minLen  int
	good    int // a match of this length at the byte before quarters the search; 0: never
	lazy    int // no search after a match of at least this length; 0: no looking ahead at all
	nice    int // a match of this length ends the search
	chain   int // candidates looked at
	insert  int // without looking ahead: longest match whose inner strings are inserted
	maxDist int
	sliding bool // Go: history is also cut where the writer's 64 KiB window begins
	block   int  // tokens per block
}

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

const (
	modelGo     = 10 // + level
	modelZlib   = 20 // + level; 32 KiB of tokens memory, the default (memLevel 8)
	modelZlib9  = 30 // + level; memLevel 9
	modelRabin  = 40 // + level, 4 to 9
	zlibMaxDist = 1<<15 - 262
)

// rules returns what the number stands for, or nil.
func (id Model) rules() *rules {
	fam, n := id/10*10, int(id%10)
	m := &rules{}
	var l level
	switch {
	case fam == modelGo && n == 1:
		return &rules{name: "go-1", tree: treeMerge, unit: true, maxDist: 1 << 15}
	case fam == modelGo && n >= 2:
		l = goLevels[n]
		m.name, m.tree, m.hash, m.minLen, m.maxDist, m.sliding, m.block = "go-", treeMerge, hashGo, 4, 1<<15, true, 1<<14
	case fam == modelZlib && n >= 1:
		l = zlibLevels[n]
		m.name, m.hash, m.minLen, m.maxDist, m.block = "zlib-", hashShift15, 3, zlibMaxDist, 1<<14-1
	case fam == modelZlib9 && n >= 1:
		l = zlibLevels[n]
		m.name, m.hash, m.minLen, m.maxDist, m.block = "zlib-mem9-", hashShift16, 3, zlibMaxDist, 1<<15-1
	case fam == modelRabin && n >= 4:
		l = zlibLevels[n]
		m.name, m.hash, m.minLen, m.maxDist, m.block = "zlib-rabin-", hashRabin, 3, zlibMaxDist, 1<<14-1
	default:
		return nil
	}
	m.name += string(rune('0' + n))
	m.good, m.lazy, m.nice, m.chain, m.insert = l.good, l.lazy, l.nice, l.chain, l.insert
	return m
}

// models lists all models, the most common writers first.
func models() []Model {
	ids := []Model{modelGo + 6, modelGo + 1, modelZlib + 6, modelZlib + 9, modelGo + 9, modelRabin + 6, modelRabin + 9}
	return append(ids, 12, 13, 14, 15, 17, 18, 21, 22, 23, 24, 25, 27, 28, 36, 39, 31, 32, 33, 34, 35, 37, 38, 44, 45, 47, 48)
}

// Memory is the most bytes that a Remaker of the model holds, besides the plain bytes and parts it is given.
func (m Model) Memory() int64 { return 16 << 20 }
