package lm

import (
	"runtime"
	"sync"
)

// parallel cuts 0..n into one range per core. No result depends on where it is cut.
func parallel(n int, do func(from, to int)) {
	k := min(n, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i := range k {
		wg.Go(func() { do(n*i/k, n*(i+1)/k) })
	}
	wg.Wait()
}

// forward sets y (batch x outputs) to x (batch x inputs) times the transpose of w (outputs x inputs) plus bias.
func forward(y, x, w, bias []float32) {
	outs, ins := len(bias), len(x)/batch
	parallel(outs/4, func(from, to int) {
		for o := 4 * from; o < 4*to; o += 4 {
			w0, w1, w2, w3 := w[o*ins:][:ins], w[(o+1)*ins:][:ins], w[(o+2)*ins:][:ins], w[(o+3)*ins:][:ins]
			for b := range batch {
				s0, s1, s2, s3 := bias[o], bias[o+1], bias[o+2], bias[o+3]
				for i, v := range x[b*ins:][:ins] {
					s0 += float32(v * w0[i])
					s1 += float32(v * w1[i])
					s2 += float32(v * w2[i])
					s3 += float32(v * w3[i])
				}
				copy(y[b*outs+o:], []float32{s0, s1, s2, s3})
			}
		}
	})
}

// backward takes the gradient dy (batch x outputs) of forward and sets dx, dw and dbias. dw and dbias must be zero.
func backward(dx, dw, dbias, dy, x, w []float32) {
	outs, ins := len(dbias), len(x)/batch
	parallel(batch, func(from, to int) {
		for b := from; b < to; b++ {
			row := dx[b*ins:][:ins]
			clear(row)
			for o := range outs {
				axpy(row, w[o*ins:], dy[b*outs+o])
			}
		}
	})
	parallel(outs, func(from, to int) {
		for o := from; o < to; o++ {
			for b := range batch {
				d := dy[b*outs+o]
				dbias[o] += d
				axpy(dw[o*ins:][:ins], x[b*ins:], d)
			}
		}
	})
}

// axpy adds a times x to y.
func axpy(y, x []float32, a float32) {
	if a == 0 {
		return
	}
	x = x[:len(y)]
	for i := range y {
		y[i] += float32(a * x[i])
	}
}

func relu(v []float32) {
	for i, x := range v {
		v[i] = max(x, 0)
	}
}
