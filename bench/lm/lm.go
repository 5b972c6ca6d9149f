// Package lm trains a small character-level language model, so that the benchmarks have a real fine-tune to work on.
//
// The model reads the last 24 bytes (each an embedding of 48 numbers), has two hidden layers of 1024 with a residual
// connection round the second, and predicts the next byte out of 128. It has 2.4 million parameters and is trained with
// Adam. A model of this size shows what an optimiser does to the bits of weights, not what large models reach.
//
// Every product is converted to float32 before it is added, which keeps the compiler from fusing the two, and the
// exponential is made of basic operations: all architectures compute the same weights.
package lm

import (
	"math"
	"math/rand/v2"
)

const (
	context = 24
	embed   = 48
	input   = context * embed
	hidden  = 1024
	vocab   = 128
	batch   = 32
)

// A Tensor is a named matrix or vector of parameters.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// A Model is a set of parameters and the state of the optimiser.
type Model struct {
	Params []Tensor // embed.weight, fc1.weight, fc1.bias, fc2.weight, fc2.bias, head.weight, head.bias
	grads  [][]float32
	m, v   [][]float32
	step   int
	rng    *rand.PCG
	act    activations
}

// The activations of one batch, row by row, and their gradients.
type activations struct {
	bytes      []byte // batch x (context+1)
	x, h1, h2  []float32
	out        []float32
	dx, d1, d2 []float32
}

// New returns a model with random weights that depend on seed only.
func New(seed uint64) *Model {
	m := &Model{rng: rand.NewPCG(seed, 1)}
	m.add("embed.weight", 0.5, vocab, embed)
	m.add("fc1.weight", 1/math.Sqrt(input), hidden, input)
	m.add("fc1.bias", 0, hidden)
	m.add("fc2.weight", 1/math.Sqrt(hidden), hidden, hidden)
	m.add("fc2.bias", 0, hidden)
	m.add("head.weight", 1/math.Sqrt(hidden), vocab, hidden)
	m.add("head.bias", 0, vocab)
	m.act = activations{
		bytes: make([]byte, batch*(context+1)),
		x:     make([]float32, batch*input), h1: make([]float32, batch*hidden), h2: make([]float32, batch*hidden),
		out: make([]float32, batch*vocab),
		dx:  make([]float32, batch*input), d1: make([]float32, batch*hidden), d2: make([]float32, batch*hidden),
	}
	return m
}

func (m *Model) add(name string, scale float64, shape ...int) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	t := Tensor{name, shape, make([]float32, n)}
	for i := range t.Data {
		t.Data[i] = float32(scale * m.normal())
	}
	m.Params = append(m.Params, t)
	m.grads = append(m.grads, make([]float32, n))
	m.m = append(m.m, make([]float32, n))
	m.v = append(m.v, make([]float32, n))
}

// normal is a nearly normal number: the sum of twelve uniform ones needs no logarithm.
func (m *Model) normal() float64 {
	sum := -6.0
	for range 12 {
		sum += float64(m.rng.Uint64()>>11) / (1 << 53)
	}
	return sum
}

// ResetOptimiser forgets the moments, as a fine-tune that starts from published weights does.
func (m *Model) ResetOptimiser() {
	for i := range m.m {
		clear(m.m[i])
		clear(m.v[i])
	}
	m.step = 0
}

// Train does steps steps on text with a learning rate that goes in a line from first to last.
// It returns the mean loss of the last tenth of the steps in nats per byte.
func (m *Model) Train(text []byte, steps int, first, last float64) float64 {
	var sum float64
	n := 0
	for i := range steps {
		loss := m.gradients(text)
		m.adam(first + (last-first)*float64(i)/float64(steps))
		if i >= steps-steps/10-1 {
			sum += loss
			n++
		}
	}
	return sum / float64(n)
}

// gradients takes a random batch, fills m.grads and returns the loss.
func (m *Model) gradients(text []byte) float64 {
	a, p, g := &m.act, m.Params, m.grads
	for i := range g {
		clear(g[i])
	}
	for b := range batch {
		at := m.rng.Uint64() % uint64(len(text)-context-1)
		row := a.bytes[b*(context+1):][:context+1]
		copy(row, text[at:])
		for j := range context {
			row[j] &= vocab - 1
			copy(a.x[b*input+j*embed:][:embed], p[0].Data[int(row[j])*embed:])
		}
		row[context] &= vocab - 1
	}
	forward(a.h1, a.x, p[1].Data, p[2].Data)
	relu(a.h1)
	forward(a.h2, a.h1, p[3].Data, p[4].Data)
	relu(a.h2)
	for i := range a.h2 {
		a.h2[i] += a.h1[i]
	}
	forward(a.out, a.h2, p[5].Data, p[6].Data)
	loss := m.softmax()

	backward(a.d2, g[5], g[6], a.out, a.h2, p[5].Data)
	copy(a.d1, a.d2) // the residual connection passes the gradient on
	for i := range a.d2 {
		if a.h2[i] == a.h1[i] {
			a.d2[i] = 0
		}
	}
	backward(a.dx[:batch*hidden], g[3], g[4], a.d2, a.h1, p[3].Data)
	for i := range a.d1 {
		a.d1[i] += a.dx[i]
		if a.h1[i] == 0 {
			a.d1[i] = 0
		}
	}
	backward(a.dx, g[1], g[2], a.d1, a.x, p[1].Data)
	for b := range batch {
		for j := range context {
			c := int(a.bytes[b*(context+1)+j])
			axpy(g[0][c*embed:][:embed], a.dx[b*input+j*embed:], 1)
		}
	}
	return loss
}

// softmax turns the outputs into the gradient of the loss and returns the loss.
func (m *Model) softmax() float64 {
	a := &m.act
	var loss float64
	for b := range batch {
		row := a.out[b*vocab:][:vocab]
		top := row[0]
		for _, v := range row {
			top = max(top, v)
		}
		var sum float64
		var e [vocab]float64
		for i, v := range row {
			e[i] = exp(float64(v - top))
			sum += e[i]
		}
		for i := range row {
			row[i] = float32(e[i] / sum / batch)
		}
		target := a.bytes[b*(context+1)+context]
		loss -= math.Log(e[target]/sum) / batch
		row[target] -= 1.0 / batch
	}
	return loss
}

// exp is e to the x for x <= 0, made of operations that every architecture rounds alike.
func exp(x float64) float64 {
	if x < -80 {
		return 0
	}
	x /= 256
	y := 1.0
	for i := 8; i > 0; i-- {
		y = 1 + float64(x*y)/float64(i)
	}
	for range 8 {
		y *= y
	}
	return y
}

// adam is Kingma and Ba, "Adam: A Method for Stochastic Optimization", algorithm 1, with its usual constants.
func (m *Model) adam(rate float64) {
	const beta1, beta2, epsilon = 0.9, 0.999, 1e-8
	m.step++
	c1, c2 := 1.0, 1.0
	for range m.step {
		c1 *= beta1
		c2 *= beta2
	}
	step := float32(rate / (1 - c1))
	scale := float32(1 / (1 - c2))
	for i, p := range m.Params {
		g, mm, vv := m.grads[i], m.m[i], m.v[i]
		parallel(len(p.Data), func(from, to int) {
			for j := from; j < to; j++ {
				mm[j] = float32(beta1*mm[j]) + float32((1-beta1)*g[j])
				vv[j] = float32(beta2*vv[j]) + float32((1-beta2)*float32(g[j]*g[j]))
				root := float32(math.Sqrt(float64(float32(vv[j] * scale))))
				p.Data[j] -= float32(step*mm[j]) / (root + epsilon)
			}
		})
	}
}
