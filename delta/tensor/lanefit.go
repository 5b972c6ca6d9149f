package tensor

import (
	"math/bits"
)

const (
	// laneSample is the count of elements whose directions are compared for each distance.
	laneSample = 8192
	// laneChunk is the step in which the end of a period is looked for, laneChance three times what chance strays by.
	laneChunk  = 4096
	laneChance = 96
	// laneBins is the count of bins in which a lane's factors are counted, from 1/2 to 3/2.
	laneBins = 256
	// leastLanes is the smallest period that is looked for.
	leastLanes = 8
)

// A laneFit is the scratch memory for finding a model. Only encoders use it.
type laneFit struct {
	up    [(maxAtoms+maxLanes)/64 + 2]uint64
	bins  [maxLanes][laneBins]uint32
	noise [maxLanes]uint64
	count [maxLanes]uint32
	mean  [maxLanes]int64
}

// direct sets a bit for each of n elements of c.x and c.y that moved away from zero.
func (c *Coder) direct(n int, f floatRule) {
	up := &c.fitting.up
	v := uint64(0)
	s := (32 - f.width) & 31
	ys := c.y[:n]
	for i, x := range c.x[:n] {
		x <<= s
		sign := x & (1 << 31)
		away := uint64(0)
		if int32(ys[i]<<s^sign) > int32(x^sign) {
			away = 1
		}
		v = v>>1 | away<<63
		if i&63 == 63 {
			up[i>>6] = v
		}
	}
	clear(up[n>>6:])
}

// period returns how the elements of c.x and c.y from the one numbered from on fall into lanes: those at a distance of a
// period tend to move the same way, and then run is 1, or neighbours do. period is 0 if there is no sign of lanes. direct
// was called for n elements.
func (c *Coder) period(from, n int) (period, run int) {
	left := n - from
	from /= 64
	most := min(maxLanes, (n/64-from)*16)
	words := min(laneSample/64, n/64-from-most/64-1)
	if words < 16 || most < 2*leastLanes {
		return 0, 0
	}
	up := c.fitting.up[from:]
	if run := neighbours(up, words, most); run > 0 {
		return (left + run - 1) / run, run
	}
	lag, mean, excess := likeliest(up, words, most)
	// Chance strays by half the root of the sample; the best of thousands by four times that.
	if excess*excess <= 9*words*64 {
		return 0, 0
	}
	// Multiples of the period do as well as the period.
	for q := leastLanes; q < lag; q++ {
		if lag%q == 0 && 2*(agreement(up, words, q)-mean) >= excess {
			return q, 1
		}
	}
	return lag, 1
}

// chance returns how many of the bits would be equal to others of their kind by chance.
func chance(up []uint64) int {
	ones, all := 0, len(up)*64
	for _, v := range up {
		ones += bits.OnesCount64(v)
	}
	return (ones*ones + (all-ones)*(all-ones)) / all
}

// likeliest returns the distance from leastLanes to most at which most elements agree, how many do so at all of them in the
// mean, and how many more at that one. A quarter of the sample tells which distances are worth the rest.
func likeliest(up []uint64, words, most int) (lag, mean, excess int) {
	var rough [maxLanes + 1]int
	part := words
	if words >= 64 {
		part = words / 4
	}
	sum := 0
	for lag := leastLanes; lag <= most; lag++ {
		rough[lag] = agreement(up, part, lag)
		sum += rough[lag]
	}
	count := most - leastLanes + 1
	mean = sum * words / part / count
	best := mean
	for l := leastLanes; l <= most; l++ {
		// What is enough in the whole sample is mostly twice this in a quarter; chance is less than two thirds of it.
		d := rough[l] - sum/count
		if d < 0 || 4*d*d < 9*part*64/4 {
			continue
		}
		if n := agreement(up, words, l); n > best {
			lag, best = l, n
		}
	}
	return lag, mean, best - mean
}

// neighbours returns a length of runs in which many elements agree, or 0. Agreement falls with the distance; where it is
// half way down to the usual is half a row. The runs are parts of rows, as their borders are not known.
func neighbours(up []uint64, words, most int) (run int) {
	near := (agreement(up, words, 1) + agreement(up, words, 2) + agreement(up, words, 3)) / 3
	least := chance(up[:words])
	if near <= least+2*laneChance {
		return 0
	}
	var same [maxLanes + 1]int
	sum, best := 0, 0
	for lag := 4; lag <= most; lag++ {
		same[lag] = agreement(up, words, lag)
		if lag >= leastLanes {
			sum += same[lag]
			best = max(best, same[lag])
		}
	}
	excess := best - sum/(most-leastLanes+1)
	if near <= least+excess*2/3 {
		return 0
	}
	far := same[most]
	lag := 4
	for lag < most && 2*same[lag] > near+far {
		lag++
	}
	run = 32
	for run < 256 && run*8 <= 2*lag {
		run *= 2
	}
	if 2*lag < run {
		return 0
	}
	return run
}

// agreement counts the bits of the first words that are equal to those at the distance.
func agreement(up []uint64, words, lag int) int {
	q, r := lag>>6, uint(lag&63)
	far := up[q : q+words+1]
	differ := 0
	for i, v := range up[:words] {
		differ += bits.OnesCount64(v ^ (far[i]>>r | far[i+1]<<1<<(63-r)))
	}
	return words*64 - differ
}

// extent returns how many of n elements from the first on have the period. One weak chunk is forgiven. What has a divisor
// of the period for its own from element undivided on is another tensor.
func (c *Coder) extent(n, period, undivided int) int {
	const words = laneChunk / 64
	end, weak := 0, 0
	for at := 0; at+laneChunk+period+64 <= n && weak < 2; at += laneChunk {
		up := c.fitting.up[at/64:]
		chance := chance(up[:words])
		excess := agreement(up, words, period) - chance
		if at >= undivided && divided(up, period, chance+max(excess*2/3, 2*laneChance)) {
			return at
		}
		if excess > laneChance {
			end, weak = at+laneChunk+period, 0
		} else {
			weak++
		}
	}
	if end > 0 && n-end < 2*laneChunk {
		return n
	}
	return end
}

// divided reports whether a divisor of the period agrees in more than least of the next elements.
func divided(up []uint64, period, least int) bool {
	for q := leastLanes; q <= period/2; q++ {
		if period%q == 0 && agreement(up, laneChunk/64, q) > least {
			return true
		}
	}
	return false
}

// fit makes the model's factors and classes from base and target, whose first element is the model's phase.
func (c *Coder) fit(t Type, base, target []byte) {
	f := ruleOf(t)
	fit := &c.fitting
	n, step := c.lanes.lanes, c.step()
	clear(fit.bins[:n])
	clear(fit.noise[:n])
	clear(fit.count[:n])
	c.eachBlock(t, base, target, func(lo, hi, lane, _ int) {
		for i := lo; i < hi; i++ {
			fit.bins[lane][f.bin(c.x[i], c.y[i])]++
			lane += step
		}
	})
	for lane := range n {
		c.factors[lane] = median(&fit.bins[lane])
	}
	c.eachBlock(t, base, target, func(lo, hi, lane, _ int) {
		for i := lo; i < hi; i++ {
			fit.noise[lane] += distance(f.difference(c.x[i], c.y[i], c.factors[lane]))
			fit.count[lane]++
			lane += step
		}
	})
	c.classifyLanes(f)
}

// step is what the lane grows by from one element to the next in a stretch of walk.
func (m *laneModel) step() int {
	if m.run == 1 {
		return 1
	}
	return 0
}

// eachBlock loads c.x and c.y block by block and walks over the lanes.
func (c *Coder) eachBlock(t Type, base, target []byte, do func(lo, hi, lane, row int)) {
	size := blockBytes(t)
	phase := c.phase
	for lo := 0; lo < len(base); lo += size {
		hi := min(lo+size, len(base))
		n := (hi - lo) / t.Element()
		load(c.x[:n], t, base[lo:hi])
		load(c.y[:n], t, target[lo:hi])
		c.walk(n, do)
		c.advance(n)
	}
	c.phase = phase
}

// distance is about the logarithm of a difference, in units of 1/4096.
func distance(d int32) uint64 {
	m := uint64(uint32(max(d, -d))) + 1
	n := bits.Len64(m) - 1
	return uint64(n)<<12 + m<<12>>n&4095
}

// bin returns where the quotient of target and base lies between 1/2 and 3/2.
func (f floatRule) bin(x, y uint32) int {
	top := uint32(1) << (f.width - 1)
	if (x^y)&top != 0 {
		return 0
	}
	one := int64(1) << f.mantissa
	ex, ey := int(x&(top-1)>>f.mantissa), int(y&(top-1)>>f.mantissa)
	sx, sy := int64(x)&(one-1)|one, int64(y)&(one-1)|one
	switch {
	case ex == 0:
		return laneBins / 2
	case ey > ex+1:
		return laneBins - 1
	case ey < ex-1:
		return 0
	}
	sy = sy << (ey - ex + 1) >> 1
	return int(max(0, min(laneBins-1, (sy-sx)*laneBins/sx+laneBins/2)))
}

// median returns the factor in the middle of the counts.
func median(bins *[laneBins]uint32) int16 {
	total := uint32(0)
	for _, n := range bins {
		total += n
	}
	sum := uint32(0)
	for i, n := range bins {
		if 2*(sum+n) >= total && n > 0 {
			const width = 1 << laneUnit / laneBins
			inside := int(uint64(total/2-min(sum, total/2)) * width / uint64(n))
			return int16((i-laneBins/2)*width + inside)
		}
		sum += n
	}
	return 0
}

// classifyLanes turns the mean distances of the lanes into classes of half an octave, and rounds factors that the noise makes
// uncertain.
func (c *Coder) classifyLanes(f floatRule) {
	fit := &c.fitting
	sum, n := uint64(0), uint64(0)
	for lane := range c.lanes.lanes {
		sum += fit.noise[lane]
		n += uint64(fit.count[lane])
	}
	mean := int64(sum / max(n, 1))
	for lane := range c.lanes.lanes {
		count := int64(max(fit.count[lane], 1))
		own := int64(fit.noise[lane]) / count
		c.laneModel.noise[lane] = byte(max(0, min(15, evenNoise+(own-mean+1024)>>11)))
		// The factor is uncertain by about its noise over the root of the count.
		keep := own>>12 - int64(f.mantissa) + laneUnit + 1 - int64(bits.Len64(uint64(count))/2)
		if keep > 0 {
			keep = min(keep, 10)
			v := int(c.factors[lane]) + 1<<(keep-1)
			c.factors[lane] = int16(v >> keep << keep)
		}
	}
}

// rateRows sets the classes of the rows of a block whose c.x and c.y are loaded, and c.y to the differences.
func (c *Coder) rateRows(n int, f floatRule) {
	fit := &c.fitting
	for lane := range c.lanes.lanes {
		fit.mean[lane] = int64(fit.noise[lane]) / int64(max(fit.count[lane], 1))
	}
	over, count, at, step := int64(0), int64(0), 0, c.step()
	rate := func() {
		c.rows[at] = byte(max(0, min(15, evenNoise+(over/max(count, 1)+1024)>>11)))
		over, count = 0, 0
	}
	c.walk(n, func(lo, hi, lane, row int) {
		if row != at {
			rate()
			at = row
		}
		for i := lo; i < hi; i++ {
			d := f.difference(c.x[i], c.y[i], c.factors[lane])
			c.y[i] = uint32(d)
			over += int64(distance(d)) - fit.mean[lane]
			lane += step
		}
		count += int64(hi - lo)
	})
	rate()
}

// lowExponent returns the first of the 16 exponents that get keys of their own: the highest of the block is the last.
func (c *Coder) lowExponent(n int, f floatRule) byte {
	most := uint32(0)
	for _, x := range c.x[:n] {
		most = max(most, x&(1<<(f.width-1)-1))
	}
	return byte(max(0, int(most>>f.mantissa)-15))
}
