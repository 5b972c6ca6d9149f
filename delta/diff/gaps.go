package diff

import "encoding/binary"

// split writes what the foretold bytes get wrong as equal bytes counted and one difference after each count, and the
// bytes that no copy makes.
func split(target []byte, p *predictor) (gaps, diffs, extra []byte) {
	run, pos := 0, 0
	for _, r := range p.runs {
		extra = append(extra, target[pos:r.lo]...)
		pos = r.hi
		for i := r.lo; i < r.hi; i++ {
			n := equal(target[i:r.hi], p.out[i:r.hi])
			run, i = run+n, i+n
			if i < r.hi {
				gaps = binary.AppendUvarint(gaps, uint64(run))
				diffs = append(diffs, target[i]-p.out[i])
				run = 0
			}
		}
	}
	return gaps, diffs, append(extra, target[pos:]...)
}

// join is split's inverse: it puts right what was foretold.
func join(p *predictor, gaps, diffs, extra []byte) error {
	dst := p.out
	next := func() (int, error) {
		if len(gaps) == 0 {
			return maxStream, nil
		}
		return takeNumber(&gaps, maxStream)
	}
	gap, err := next()
	if err != nil {
		return err
	}
	pos := 0
	for _, r := range p.runs {
		if len(extra) < r.lo-pos {
			return corrupt("extra bytes run out")
		}
		extra = extra[copy(dst[pos:r.lo], extra):]
		pos = r.hi
		i := r.lo
		for ; gap < r.hi-i; i++ {
			i += gap
			if len(diffs) == 0 {
				return corrupt("differences run out")
			}
			dst[i] += diffs[0]
			diffs = diffs[1:]
			if gap, err = next(); err != nil {
				return err
			}
		}
		gap -= r.hi - i
	}
	if len(extra) != len(dst)-pos || len(gaps) != 0 || len(diffs) != 0 {
		return corrupt("streams of another length")
	}
	copy(dst[pos:], extra)
	return nil
}
