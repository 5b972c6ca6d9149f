package recipe

// look is the state of the search of levels 5 and 6: one place per hash of four bytes, two per hash of seven. Level 6 also
// tries the last distance, stores more, and looks at both places where it checks the end of a match.
type look struct {
	*fast
	six    bool
	repeat int // last distance
	s, t   int // the match found
	l      int // its length if known, at most 258, else 0
}

const lookBits = 15

// lookAround is the search of levels 5 and 6.
func (f *fast) lookAround(s int) {
	k := look{fast: f, six: f.m.level == 6, repeat: 1}
	for {
		k.s = s
		if !k.find() {
			return
		}
		switch {
		case k.l == 0:
			k.l = 4 + f.common(k.s+4, k.t+4)
		case k.l == maxMatch:
			k.l += f.common(k.s+k.l, k.t+k.l)
		}
		k.checkEnd()
		var l int
		s, l, k.repeat = f.match(k.s, k.t, k.l)
		if s >= f.limit {
			if k.six {
				for i := f.next + 1; i < len(f.src)-8; i += 2 {
					k.store(i)
				}
			}
			return
		}
		if k.six {
			k.storeSix(s)
		} else {
			k.storeFive(s, l)
		}
	}
}

// store puts i into both tables.
func (k *look) store(i int) {
	v := load64(k.src, i)
	k.short[hash4(v, lookBits)] = int32(i)
	k.long[hash7(v, lookBits)].push(i)
}

// limited is the length of the match at s with t, at most 258.
func (k *look) limited(s, t int) int {
	return 4 + matchLen(k.src[s+4:min(s+maxMatch, len(k.src))], k.src[t+4:])
}

// find goes on from s until there is a match. It reports false at the end of the unit.
func (k *look) find() bool {
	skip := uint(6)
	if k.six {
		skip = 7
	}
	k.next, k.l = k.s, 0
	for {
		s := k.next
		k.s = s
		k.next = s + 1 + (s-k.emit)>>skip
		if k.next > k.limit {
			return false
		}
		v := load64(k.src, s)
		h := hash4(v, lookBits)
		c := &k.long[hash7(v, lookBits)]
		sc, cur, prev := int(k.short[h]), int(c.cur), int(c.prev)
		k.short[h] = int32(s)
		c.push(s)
		if s-cur < ringSize {
			if k.near(s, cur) {
				k.store(k.next)
				k.t = cur
				if k.near(s, prev) {
					k.l = k.limited(s, cur)
					if l := k.limited(s, prev); l > k.l {
						k.t, k.l = prev, l
					}
				}
				return true
			}
			if k.near(s, prev) {
				k.store(k.next)
				k.t = prev
				return true
			}
		}
		if k.near(s, sc) {
			k.t, k.l = sc, k.limited(s, sc)
			k.lookNext()
			return true
		}
	}
}

// lookNext checks whether the place where the search would go on has a longer match.
func (k *look) lookNext() {
	c := k.long[hash7(load64(k.src, k.next), lookBits)]
	k.store(k.next)
	if k.six {
		s := k.s + 1
		if t := s - k.repeat; load32(k.src, t) == load32(k.src, s) {
			if l := k.limited(s, t); l > k.l {
				k.s, k.t, k.l = s, t, l
				return
			}
		}
	}
	cur, prev := int(c.cur), int(c.prev)
	if k.next-cur >= ringSize {
		return
	}
	if k.near(k.next, cur) {
		if l := k.limited(k.next, cur); l > k.l {
			k.s, k.t, k.l = k.next, cur, l
			if !k.six {
				return
			}
		}
	}
	if k.near(k.next, prev) {
		if l := k.limited(k.next, prev); l > k.l {
			k.s, k.t, k.l = k.next, prev, l
		}
	}
}

// checkEnd looks up the bytes behind the match: what was there before may have a longer match that begins two bytes later.
func (k *look) checkEnd() {
	end := k.s + k.l
	if end >= k.limit || !k.six && k.l >= 30 {
		return
	}
	c := k.long[hash7(load64(k.src, end), lookBits)]
	s := k.s + 2
	t := int(c.cur) - k.l + 2
	if s-t >= ringSize {
		return
	}
	k.ifLonger(s, t)
	if k.six {
		if t = int(c.prev) - k.l + 2; s-t < ringSize {
			k.ifLonger(s, t)
		}
	}
}

func (k *look) ifLonger(s, t int) {
	if t < k.base || t >= s {
		return
	}
	if l := k.common(s, t); l > k.l {
		k.s, k.t, k.l = s, t, l
	}
}

func (k *look) storeFive(s, l int) {
	if i := s - l + 1; i < s-1 {
		v := load64(k.src, i)
		k.short[hash4(v, lookBits)] = int32(i)
		k.long[hash7(v, lookBits)].push(i)
		k.long[hash7(v>>8, lookBits)].push(i + 1)
		k.short[hash4(v>>16, lookBits)] = int32(i + 2)
		for i += 4; i < s-1; i += 3 {
			v := load64(k.src, i)
			k.long[hash7(v, lookBits)].push(i)
			k.short[hash4(v>>8, lookBits)] = int32(i + 1)
		}
	}
	k.store(s - 1)
}

func (k *look) storeSix(s int) {
	for i := k.next + 1; i < s-1; i += 2 {
		k.store(i)
		k.long[hash7(load64(k.src, i)>>8, lookBits)].push(i + 1)
	}
}
