package delta

import "encoding/binary"

// rebuild makes the plain bytes of a segment in dst, which has the right length, and returns its recipe part. The part
// is valid until the next call.
func (u *unpacker) rebuild(dst []byte, s *segment, old *joined, begin int64) ([]byte, error) {
	extra, err := u.stream(s, strExtra)
	if err != nil {
		return nil, err
	}
	if s.kind == segBsdiff {
		err = applyBsdiff(dst, extra, old)
	} else {
		err = u.copies(dst, s, extra, old, begin)
	}
	if err != nil {
		return nil, err
	}
	return u.stream(s, strRecipe)
}

func (u *unpacker) copies(dst []byte, s *segment, extra []byte, old *joined, begin int64) error {
	control, err := u.stream(s, strControl)
	if err != nil {
		return err
	}
	u.ops, err = layOut(u.ops[:0], dst, control, extra, old)
	if err != nil {
		return err
	}
	gaps, err := u.stream(s, strGaps)
	if err != nil {
		return err
	}
	diffs, err := u.stream(s, strDiffs)
	if err != nil {
		return err
	}
	switch s.diff {
	case diffGaps:
		return decodeGaps(dst, gaps, diffs, u.ops)
	case diffBytes:
		return decodeBytes(dst, diffs, u.ops)
	}
	return elementOf(s.diff).decodeElements(dst, diffs, u.ops, begin)
}

// layOut puts copies and extra bytes in their places and returns the copies.
func layOut(ops []op, dst, control, extra []byte, old *joined) ([]op, error) {
	at, next := 0, int64(0)
	for len(control) > 0 {
		gap, err := uvarint(&control, uint64(len(dst)-at))
		if err != nil {
			return ops, err
		}
		if gap > uint64(len(extra)) {
			return ops, corrupt("extra bytes run out")
		}
		at += copy(dst[at:], extra[:gap])
		extra = extra[gap:]
		n, err := uvarint(&control, uint64(len(dst)-at))
		if err != nil {
			return ops, err
		}
		jump, k := binary.Varint(control)
		if k <= 0 || n == 0 || len(ops) >= maxOps {
			return ops, corrupt("bad copy")
		}
		control = control[k:]
		if jump < -next || jump > old.size()-next {
			return ops, corrupt("copy from outside the bases")
		}
		o := op{at, int(n), next + jump}
		if err := old.read(dst[at:at+o.n], o.old); err != nil {
			return ops, err
		}
		ops = append(ops, o)
		at, next = at+o.n, o.old+int64(o.n)
	}
	if len(extra) != len(dst)-at {
		return ops, corrupt("extra bytes of the wrong length")
	}
	copy(dst[at:], extra)
	return ops, nil
}

func decodeBytes(p, diffs []byte, ops []op) error {
	for _, o := range ops {
		if len(diffs) < o.n {
			return corrupt("differences run out")
		}
		for i, d := range diffs[:o.n] {
			p[o.at+i] += d
		}
		diffs = diffs[o.n:]
	}
	if len(diffs) != 0 {
		return corrupt("differences left over")
	}
	return nil
}
