package recipe

// A planner runs a writer whose matches depend on the plain bytes alone, not on what became of them, one stretch at a
// time. Positions are indexes into the window.
type planner interface {
	// plan returns the matches of the stretch that begins at pos, in order, and where it ends. The list is valid until
	// the next call. At least lookahead bytes follow pos in the window, or all.
	plan(pos int) (list []placed, end int)
	reset(w *window, start, end int) // begins a stream
	rebase(k int)                    // the window dropped k bytes
}

// placed is a match and where it is.
type placed struct {
	pos int
	tok token
}

// planned is the predictor for such writers. Its blocks end with a stretch, or after so many tokens.
type planned struct {
	m          *rules
	w          *window
	p          planner
	start, end int // of the stream
	pos        int
	list       []placed
	at         int // index of the first match of list that is not before pos
	ready      int // the stretches before it have been planned
}

func newPlanned(old predictor, m *rules, w *window, start, end int) *planned {
	p, ok := old.(*planned)
	if !ok || p.m != m {
		p = &planned{m: m}
		switch m.plan {
		case planUnits:
			p.p = &goUnits{}
		case planLazy:
			p.p = newLazy(m)
		default:
			p.p = newFast(m)
		}
	}
	p.w, p.start, p.end, p.pos, p.ready = w, start, end, start, start
	p.list, p.at = nil, 0
	p.p.reset(w, start, end)
	return p
}

func (p *planned) position() int { return p.pos }

func (p *planned) flushed() bool {
	return p.pos >= p.end || p.m.period > 0 && (p.pos-p.start)%p.m.period == 0
}

func (p *planned) done(n int) bool {
	if n == 0 || p.pos >= p.end {
		return p.pos >= p.end
	}
	if p.m.plan == planLazy {
		return n >= p.m.block || p.flushed()
	}
	return p.pos >= p.ready
}

func (p *planned) rebase(k int) {
	p.p.rebase(k)
	for i := range p.list {
		p.list[i].pos -= k
	}
	p.start, p.end, p.pos, p.ready = p.start-k, p.end-k, p.pos-k, p.ready-k
}

// enter plans the stretches that begin at pos or before and were not yet.
func (p *planned) enter(pos int) {
	for pos >= p.ready && p.ready < p.end {
		p.list, p.ready = p.p.plan(p.ready)
		p.at = 0
	}
}

func (p *planned) predict() token {
	p.enter(p.pos)
	for p.at < len(p.list) && p.list[p.at].pos < p.pos {
		p.at++
	}
	if p.at < len(p.list) && p.list[p.at].pos == p.pos {
		return p.list[p.at].tok
	}
	return token(p.w.buf[p.pos])
}

func (p *planned) commit(t token) {
	p.enter(p.pos)
	p.pos += t.size()
}

func (p *planned) jump(pos int) {
	p.enter(pos - 1)
	p.pos = pos
}
