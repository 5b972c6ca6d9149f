package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A canvas collects the elements of a chart. Charts carry their own background, so that they read alike everywhere.
type canvas struct {
	b             strings.Builder
	width, height float64
}

func newCanvas(width, height float64, title string) *canvas {
	c := &canvas{width: width, height: height}
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" font-family="sans-serif" font-size="12" role="img">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&c.b, "<title>%s</title>\n<rect width=\"%g\" height=\"%g\" fill=\"#ffffff\"/>\n", html.EscapeString(title), width, height)
	c.text(width/2, 22, title, "middle", `font-size="15" font-weight="bold"`)
	return c
}

func (c *canvas) text(x, y float64, s, anchor, more string) {
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#222222" %s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(&c.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func (c *canvas) rect(x, y, w, h float64, colour string) {
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, w, h, colour)
}

func (c *canvas) dot(x, y, r float64, colour string) {
	fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>`+"\n", x, y, r, colour)
}

func (c *canvas) String() string { return c.b.String() + "</svg>\n" }

// A logAxis maps values to positions by their logarithm.
type logAxis struct{ low, high, from, to float64 }

// newLogAxis makes an axis that holds all values, with a little room at both ends.
func newLogAxis(values []float64, from, to float64) logAxis {
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	return logAxis{low / 1.3, high * 1.3, from, to}
}

func (a logAxis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

// ticks are 1, 2 and 5 times the powers of ten.
func (a logAxis) ticks() []float64 {
	var list []float64
	for e := math.Floor(math.Log10(a.low)); e <= math.Log10(a.high); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= a.low && v <= a.high {
				list = append(list, v)
			}
		}
	}
	return list
}

// A point is one tool in a scatter chart.
type point struct {
	name, colour string
	x, y         float64
}

// scatter draws points with their names. Names that would cover each other are moved apart.
func scatter(title, xTitle, yTitle string, points []point) string {
	const left, right, top, bottom = 70, 690, 45, 400
	c := newCanvas(760, 460, title)
	var xs, ys []float64
	for _, p := range points {
		xs, ys = append(xs, p.x), append(ys, p.y)
	}
	x, y := newLogAxis(xs, left, right), newLogAxis(ys, bottom, top)
	for _, v := range x.ticks() {
		c.line(x.at(v), top, x.at(v), bottom, "#e4e4e4")
		c.text(x.at(v), bottom+17, number(v), "middle", "")
	}
	for _, v := range y.ticks() {
		c.line(left, y.at(v), right, y.at(v), "#e4e4e4")
		c.text(left-7, y.at(v)+4, number(v), "end", "")
	}
	c.line(left, bottom, right, bottom, "#555555")
	c.line(left, top, left, bottom, "#555555")
	c.text((left+right)/2, bottom+42, xTitle, "middle", "")
	c.text(0, 0, yTitle, "middle", fmt.Sprintf(`transform="translate(20 %d) rotate(-90)"`, (top+bottom)/2))
	var taken []box
	for _, p := range points {
		px, py := x.at(p.x), y.at(p.y)
		c.dot(px, py, 5, p.colour)
		taken = append(taken, box{px - 6, py - 6, px + 6, py + 6})
	}
	for _, p := range points {
		b, anchor := place(x.at(p.x), y.at(p.y), float64(len(p.name))*6.8, right+60, taken)
		taken = append(taken, b)
		at := b.x1
		if anchor == "end" {
			at = b.x2
		}
		c.text(at, b.y2-3, p.name, anchor, "")
	}
	return c.String()
}

type box struct{ x1, y1, x2, y2 float64 }

func (b box) hits(o box) bool { return b.x1 < o.x2 && o.x1 < b.x2 && b.y1 < o.y2 && o.y1 < b.y2 }

// place finds room for a name of a width beside a dot at x, y.
func place(x, y, width, limit float64, taken []box) (box, string) {
	var first box
	for i, dy := range []float64{0, -11, 11, -16, 16, -26, 26} {
		for _, side := range []string{"start", "end"} {
			b := box{x + 9, y - 7 + dy, x + 9 + width, y + 7 + dy}
			if side == "end" {
				b.x1, b.x2 = x-9-width, x-9
			}
			if i == 0 && side == "start" {
				first = b
			}
			free := b.x2 < limit && b.x1 > 75
			for _, t := range taken {
				free = free && !b.hits(t)
			}
			if free {
				return b, side
			}
		}
	}
	return first, "start"
}

// A series is one colour of bars; a value that is missing is NaN.
type series struct {
	name, colour string
	values       []float64
}

// bars draws groups of horizontal bars, one group per label, and a line at mark. A group has no gap for a missing value.
func bars(title, xTitle string, labels []string, all []series, mark float64) string {
	const left, right, top, thick, gap = 130, 690, 75, 12, 10
	high, bottom := mark, float64(top)
	for i := range labels {
		bottom += gap
		for _, s := range all {
			if v := s.values[i]; !math.IsNaN(v) {
				high = max(high, v)
				bottom += thick
			}
		}
	}
	c := newCanvas(760, bottom+50, title)
	at := func(v float64) float64 { return left + (right-left)*v/(high*1.05) }
	step := niceStep(high)
	for v := 0.0; v <= high*1.05; v += step {
		c.line(at(v), top, at(v), bottom, "#e4e4e4")
		c.text(at(v), bottom+17, fmt.Sprintf("%.4g", v), "middle", "")
	}
	legend := float64(left)
	for _, s := range all {
		c.rect(legend, 43, 12, 12, s.colour)
		c.text(legend+17, 53, s.name, "start", "")
		legend += 35 + 7*float64(len(s.name))
	}
	c.line(at(mark), top, at(mark), bottom, "#555555")
	y := top + gap/2.0
	for i, label := range labels {
		start := y
		for _, s := range all {
			if v := s.values[i]; !math.IsNaN(v) {
				c.rect(left, y, at(v)-left, thick-1, s.colour)
				c.text(at(v)+4, y+9, number(v), "start", `font-size="10"`)
				y += thick
			}
		}
		c.text(left-8, (start+y)/2+4, label, "end", "")
		y += gap
	}
	c.line(left, top, left, bottom, "#555555")
	c.text((left+right)/2, bottom+40, xTitle, "middle", "")
	return c.String()
}

// niceStep is 1, 2 or 5 times a power of ten that cuts the length into four to ten pieces.
func niceStep(length float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(length/4)))
	for _, m := range []float64{5, 2, 1} {
		if m*p <= length/4 {
			return m * p
		}
	}
	return p
}
