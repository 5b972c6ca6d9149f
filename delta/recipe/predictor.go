package recipe

// predictor foretells a writer's tokens from the plain bytes and the tokens so far.
type predictor interface {
	position() int
	done(n int) bool // whether the writer would end a block here, n tokens after the last place of that kind
	flushed() bool   // whether the writer flushes at position
	predict() token  // what the writer would emit at position
	commit(t token)  // what it did emit
	jump(pos int)    // go on at pos, whatever the writer did up to there
	rebase(k int)    // the window dropped k bytes
}

// newPredictor returns a predictor for the stream whose plain bytes are buf[start:end], in the tables of old if they fit.
func newPredictor(m *rules, w *window, start, end int, old predictor) predictor {
	if m.plan != planNone {
		return newPlanned(old, m, w, start, end)
	}
	c, _ := old.(*chains)
	return newChains(c, m, w, start, end)
}

// simulate lets the writer run through a block whose tokens nobody knows, and returns where it would end.
func simulate(p predictor) int {
	start := p.position()
	for n := 0; !p.done(n) && p.position()-start <= maxStored; n++ {
		p.commit(p.predict())
	}
	return p.position()
}
