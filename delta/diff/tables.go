package diff

// Probabilities in the logistic domain: squash(d) is 65536/(1+e^(-d/256)), stretch its inverse. Readers on all machines must
// agree, so nothing here uses floating point: squash goes straight between the values below.

// squashSteps are 65536/(1+e^(-d/256)) for d from 0 in steps of 64.
var squashSteps = [...]int32{
	32768, 36843, 40793, 44511, 47911, 50941, 53581, 55834, 57724, 59287, 60565, 61598,
	62428, 63090, 63615, 64030, 64357, 64614, 64816, 64974, 65097, 65194, 65269, 65328,
	65374, 65410, 65438, 65459, 65476, 65489, 65500, 65508, 65514, 65519, 65523, 65526,
	65528, 65530, 65531, 65532, 65533, 65534, 65534, 65535, 65535, 65535, 65535, 65535,
	65535,
}

const (
	stretchMax = int32(64*(len(squashSteps)-1) - 1)
	leastProb  = 12 // a probability stays so far, in 1/65536, from 0 and 1
)

// squashTable holds squash for d+stretchMax.
var squashTable = makeSquash()

func makeSquash() (t [2*stretchMax + 1]int32) {
	for d := range stretchMax + 1 {
		lo, hi := squashSteps[d/64], squashSteps[d/64+1]
		v := min(lo+(hi-lo)*int32(d%64)/64, 65536-leastProb)
		t[stretchMax+d], t[stretchMax-d] = v, 65536-v
	}
	return t
}

func squash(d int32) int32 { return squashTable[min(max(d, -stretchMax), stretchMax)+stretchMax] }

// stretchTable holds, for each probability in 1/4096 and half a step, the first d whose squash is not below it.
var stretchTable = makeStretch()

func makeStretch() (t [4096]int16) {
	d := -stretchMax
	for i := range t {
		for d < stretchMax && squash(d) < int32(i)*16+8 {
			d++
		}
		t[i] = int16(d)
	}
	return t
}
