package delta

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Line is what Explain says of one stretch of the plain bytes: a member, a tensor, or a run of small pieces.
type Line struct {
	Name  string `json:"name"`
	Codec string `json:"codec"` // the words of doc.go, joined by +
	Plain int64  `json:"plain"` // bytes it rebuilds
	Bytes int64  `json:"bytes"` // bytes of the delta for that
}

// Explanation is what a delta is made of. It comes from the delta alone, so it is as true as the delta is trusted.
type Explanation struct {
	Header Header `json:"-"`
	Lines  []Line `json:"lines"`
	Recipe int64  `json:"recipe"` // bytes of the delta for the recipe
	Other  int64  `json:"other"`  // header and names
}

const (
	maxNames = 8 << 20 // bytes of names
	maxLines = 1 << 20
)

// namesOf makes the record that says what the units are. Names beyond the limit are left out.
func namesOf(units []unit, enc *zstd.Encoder) *record {
	var b []byte
	for _, u := range units {
		if len(b) > maxNames-len(u.name)-20 {
			break
		}
		b = binary.AppendUvarint(b, uint64(u.n))
		b = binary.AppendUvarint(b, uint64(len(u.name)))
		b = append(b, u.name...)
	}
	return &record{kind: recNames, raw: uint32(len(b)), body: enc.EncodeAll(b, nil)}
}

// Explain reads a delta and says which codec made what of how many bytes. It decodes nothing but the names.
func Explain(d io.Reader) (Explanation, error) {
	in := &countReader{r: d}
	h, err := ReadHeader(in)
	if err != nil {
		return Explanation{}, err
	}
	e := &explainer{Explanation: Explanation{Header: h, Other: in.n}}
	rr := recordReader{in, h.maxRecord}
	var buf []byte
	for {
		var rec record
		if rec, buf, err = rr.next(buf); err == io.EOF {
			break
		}
		if err == nil {
			err = e.record(&rec, int64(len(buf)+recordHead))
		}
		if err != nil {
			return e.Explanation, &CorruptError{in.n, err.Error()}
		}
	}
	e.join()
	return e.Explanation, nil
}

// explainer gathers the records in Lines, and joins those of one name at the end.
type explainer struct {
	Explanation
	head  int64 // bytes of a map whose segments are still to come
	names []Line
}

func (e *explainer) record(r *record, size int64) error {
	switch r.kind {
	case recPart:
		e.Recipe += size
		return nil
	case recMap:
		e.head += size
		return nil
	case recNames:
		e.Other += size
		return e.readNames(r)
	}
	if len(e.Lines) >= maxLines {
		return corrupt("too many records")
	}
	e.Lines = append(e.Lines, Line{Codec: words[r.kind], Plain: r.plain, Bytes: size + e.head})
	e.head = 0
	return nil
}

func (e *explainer) readNames(r *record) error {
	if r.raw > maxNames {
		return corrupt("too many names")
	}
	dec, err := newZstd(maxNames)
	if err != nil {
		return err
	}
	defer dec.Close()
	b, err := dec.DecodeAll(r.body, make([]byte, 0, r.raw))
	if err != nil || len(b) != int(r.raw) {
		return corrupt("names do not decode to their length")
	}
	for n := (numbers{b: b}); len(n.b) > 0; {
		plain, size := n.next(maxSize), n.next(uint64(len(n.b)))
		if n.bad || size > int64(len(n.b)) {
			return corrupt("names out of range")
		}
		e.names = append(e.names, Line{Name: printable(string(n.b[:size])), Plain: plain})
		n.b = n.b[size:]
	}
	return nil
}

// printable is a hostile name that does no harm on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
}

// join makes one line of the records that belong to one name.
func (e *explainer) join() {
	recs := e.Lines
	var out []Line
	for _, n := range e.names {
		l := Line{Name: n.Name}
		if l.Name == "" {
			l.Name = "the whole file"
		}
		var codecs []string
		for len(recs) > 0 && l.Plain+recs[0].Plain <= n.Plain {
			l.Plain += recs[0].Plain
			l.Bytes += recs[0].Bytes
			if !slices.Contains(codecs, recs[0].Codec) {
				codecs = append(codecs, recs[0].Codec)
			}
			recs = recs[1:]
		}
		l.Codec = strings.Join(codecs, "+")
		out = append(out, l)
	}
	for i, r := range recs {
		r.Name = fmt.Sprintf("record %d without a name", i)
		out = append(out, r)
	}
	e.Lines = out
}
