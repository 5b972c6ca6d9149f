// Package match finds the parts of a target that are copies, exact or nearly so, of old bytes.
//
// # The index
//
// The old bytes are cut into blocks of 16. A table has one uint32 slot per hash value, eight slots for each five blocks,
// so 0.4 bytes for each old byte; a slot holds a block number plus one, the earliest block of its content.
// A bitmap of eight bits per block tells most absent blocks without a look at the table. A hash is reduced
// to the table's size by the high half of a product, so that the table needs no power of two.
//
// # The search
//
// At each place the search first tries the alignment (old place minus new place) that it is on, then asks the index. It
// changes the alignment only if the new match makes clearly more bytes equal than the present alignment does. Copies are
// then widened over bytes that mostly agree, as in bsdiff (C. Percival, Naive differences of executable code, 2003), and
// where two neighbours meet each byte goes to the side that does better.
//
// With Options.Short it then looks, in what is left uncovered and near the place where that would lie in the old bytes, for
// matches of eight bytes and more, widened too.
//
// What the search returns decides the size of a delta, never its meaning: a delta holds the copies. The search may
// therefore change between versions.
package match
