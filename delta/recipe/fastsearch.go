package recipe

// single is the search of levels 1 and 2: one place per hash of five bytes. Level 1 differs in its smaller table, an odd
// store after every second lookup, and in that it stores fewer places inside a match.
func (f *fast) single(s int) {
	src, tab, first := f.src, f.short, f.m.level == 1
	bits := uint(17)
	if first {
		bits = 15
	}
	cv := load64(src, s)
	for {
		var t int
		for {
			h := hash5(cv, bits)
			f.next = s + 2 + (s-f.emit)>>5
			if f.next > f.limit {
				return
			}
			t = int(tab[h])
			now := load64(src, f.next)
			tab[h] = int32(s)
			h = hash5(now, bits)
			if s-t < ringSize && uint32(cv) == load32(src, t) {
				tab[h] = int32(f.next)
				break
			}
			cv, s = now, f.next
			f.next++
			t = int(tab[h])
			tab[h] = int32(s)
			if s-t < ringSize && uint32(cv) == load32(src, t) {
				if first {
					tab[h] = int32(f.next)
				}
				break
			}
			cv, s = now>>8, f.next
		}
		for {
			var l int
			s, l, _ = f.match(s, t, 4+f.common(s+4, t+4))
			if s >= f.limit {
				if s+l+8 < len(src) {
					tab[hash5(load64(src, s), bits)] = int32(s)
				}
				return
			}
			if !first {
				for i := s - l + 2; i < s-5; i += 7 {
					x := load64(src, i)
					tab[hash5(x, bits)] = int32(i)
					tab[hash5(x>>16, bits)] = int32(i + 2)
					tab[hash5(x>>32, bits)] = int32(i + 4) // the fifth byte is taken as zero
				}
			}
			x := load64(src, s-2)
			tab[hash5(x, bits)] = int32(s - 2)
			if !first {
				tab[hash5(x>>8, bits)] = int32(s - 1)
			}
			x >>= 16
			h := hash5(x, bits)
			t = int(tab[h])
			tab[h] = int32(s)
			if s-t > ringSize || uint32(x) != load32(src, t) {
				cv = x >> 8
				s++
				break
			}
		}
	}
}

// push puts s before the newest place of its hash.
func (p *pair) push(s int) { *p = pair{int32(s), p.cur} }

// double is the search of level 3: two places per hash of five bytes.
func (f *fast) double(s int) {
	const bits = 16
	src, tab := f.src, f.long
	at := func(i int) *pair { return &tab[hash5(load64(src, i), bits)] }
	for {
		f.next = s
		t, ok := 0, false
		for !ok {
			s = f.next
			f.next = s + 1 + (s-f.emit)>>7
			if f.next > f.limit {
				return
			}
			c := at(s)
			cur, prev := int(c.cur), int(c.prev)
			c.push(s)
			t, ok = f.better(s, cur, prev)
		}
		for ok {
			var l, dist int
			s, l, dist = f.match(s, t, 4+f.common(s+4, t+4))
			if s >= f.limit {
				if t = f.emit - dist; t+8 < len(src) && t > f.base {
					at(t).push(t)
				}
				return
			}
			for i := s - l + 2; i < s-5; i += 6 {
				at(i).push(i)
			}
			at(s - 2).push(s - 2)
			at(s - 1).push(s - 1)
			c := at(s)
			cur, prev := int(c.cur), int(c.prev)
			c.push(s)
			t, ok = f.either(s, cur, prev)
		}
		s++
	}
}

// better picks the place with the longer match at s, the newer one if they are equal.
func (f *fast) better(s, cur, prev int) (int, bool) {
	const reach = ringSize - 4
	v := load32(f.src, s)
	if s-cur > reach {
		return 0, false
	}
	if v == load32(f.src, cur) {
		if s-prev <= reach && v == load32(f.src, prev) && f.common(s+4, prev+4) > f.common(s+4, cur+4) {
			return prev, true
		}
		return cur, true
	}
	return prev, s-prev < reach && v == load32(f.src, prev)
}

// either picks the newer place with a match at s.
func (f *fast) either(s, cur, prev int) (int, bool) {
	const reach = ringSize - 4
	v := load32(f.src, s)
	if s-cur >= reach {
		return 0, false
	}
	if v == load32(f.src, cur) {
		return cur, true
	}
	return prev, s-prev < reach && v == load32(f.src, prev)
}

// near reports whether the four bytes at s are also at t, in reach.
func (f *fast) near(s, t int) bool { return s-t < ringSize && load32(f.src, s) == load32(f.src, t) }

// twoTables is the search of level 4: one place per hash of four bytes and one per hash of seven.
func (f *fast) twoTables(s int) {
	const bits = 15
	src, short, long := f.src, f.short, f.long
	for {
		f.next = s
		var t int
		for {
			s = f.next
			f.next = s + 1 + (s-f.emit)>>6
			if f.next > f.limit {
				return
			}
			v := load64(src, s)
			h, hl := hash4(v, bits), hash7(v, bits)
			t = int(long[hl].cur)
			c := int(short[h])
			short[h], long[hl].cur = int32(s), int32(s)
			if f.near(s, t) {
				break
			}
			if t = c; f.near(s, t) {
				n := int(long[hash7(load64(src, f.next), bits)].cur)
				// The writer compares with the wrong place: so far from the begin of its buffer as n is from next.
				if f.near(f.next, n) && f.common(f.next+4, f.base+f.next-n+4) > f.common(s+4, t+4) {
					s, t = f.next, n
				}
				break
			}
		}
		s, _, _ = f.match(s, t, 4+f.common(s+4, t+4))
		if s >= f.limit {
			if s+8 < len(src) {
				v := load64(src, s)
				short[hash4(v, bits)], long[hash7(v, bits)].cur = int32(s), int32(s)
			}
			return
		}
		for i := f.next; i < s-1; i += 3 {
			v := load64(src, i)
			long[hash7(v, bits)].cur = int32(i)
			v >>= 8
			long[hash7(v, bits)].cur = int32(i + 1)
			short[hash4(v, bits)] = int32(i + 1)
		}
		v := load64(src, s-1)
		short[hash4(v, bits)], long[hash7(v, bits)].cur = int32(s-1), int32(s-1)
	}
}
