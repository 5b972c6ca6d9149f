package recipe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// update writes the frozen files anew. Only what is new may change in them: a model's number means the same for ever.
var update = flag.Bool("update", false, "write testdata anew")

// frozenPlain is bytes made by integer arithmetic alone: words, numbers, noise, runs, and copies from far and near.
func frozenPlain(n int) []byte {
	words := strings.Fields("the of a delta layer image model writer reader block token match window error nil return func if for range bytes")
	seed := uint32(1)
	next := func(k uint32) uint32 {
		seed = seed*1664525 + 1013904223
		return (seed >> 8) % k
	}
	var b []byte
	for len(b) < n {
		switch k := next(1000); {
		case k < 900:
			b = append(append(b, words[next(uint32(len(words)))]...), " \n\t(."[next(5)])
		case k < 930:
			b = fmt.Appendf(b, "%d", next(1<<20))
		case k < 997 && len(b) > 70000:
			at := len(b) - 1 - int(next(70000))
			b = append(b, b[at:min(len(b), at+3+int(next(90)))]...)
		case k == 998:
			b = append(b, make([]byte, next(3000))...)
		case k == 999:
			b = append(b, noise(int(next(1500)), uint64(seed)|1)...)
		}
	}
	return b[:n]
}

// ideal is the recipe of a file that the model's writer would make of plain, every block with its own code.
func ideal(m Model, plain []byte) recorded {
	out := partStreams{events: binary.AppendUvarint([]byte{evVerbatim, 10, evMember}, uint64(len(plain)))}
	out.verbatim = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	r := m.rules()
	p := newPredictor(r, &window{buf: plain, eof: true}, 0, len(plain), nil)
	for p.position() < len(plain) {
		for n := 0; n == 0 || !p.done(n); n++ {
			p.commit(p.predict())
		}
		e := byte(evBlock | kindDynamic | blkHead | blkLength)
		if p.position() == len(plain) {
			e |= blkFinal
		}
		if out.events = append(out.events, e); r.share {
			out.events = append(out.events, 0)
		}
	}
	out.events = append(out.events, evTrailer)
	return recorded{m, []int{len(plain)}, [][]byte{out.pack()}}
}

// TestModelsAreFrozen: every model chooses the tokens, block ends and codes that it chose when it got its number.
func TestModelsAreFrozen(t *testing.T) {
	const name = "testdata/models.txt"
	all := frozenPlain(1_100_000)
	want := map[string]string{}
	if b, err := os.ReadFile(name); err == nil {
		for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			number, rest, _ := strings.Cut(l, " ")
			want[number] = rest
		}
	} else if !*update {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	for _, m := range models() {
		plain := all[:250_000]
		switch r := m.rules(); {
		case r.period > 1<<19:
			plain = all // more than one period
		case r.plan == planFast:
			plain = all[:500_000] // more than the writer's buffer
		}
		r := ideal(m, plain)
		gz, err := r.remake(plain, 70_000)
		if err != nil {
			t.Fatalf("%s: %v", m, err)
		}
		zr, err := gzip.NewReader(bytes.NewReader(gz))
		if err != nil {
			t.Fatalf("%s: %v", m, err)
		}
		if got, err := io.ReadAll(zr); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%s: gunzip of what was made: %d bytes, %v", m, len(got), err)
		}
		got := fmt.Sprintf("%s %d %x", m, len(gz), sha256.Sum256(gz))
		if w, ok := want[fmt.Sprint(uint16(m))]; got != w && (ok || !*update) {
			t.Errorf("model %d is %q, was %q", m, got, w)
		}
		fmt.Fprintf(&lines, "%d %s\n", m, got)
	}
	if *update {
		if err := os.WriteFile(name, lines.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEncoderIsFrozen: the zstd models stand for the output of one version of the encoder. If this fails after an update
// of the module, the models of zstd.go have lost their meaning; see famZstd.
func TestEncoderIsFrozen(t *testing.T) {
	plain := frozenPlain(3 << 20)
	for _, c := range []struct{ level, want string }{
		{"fastest", "bde10a9dec6ccb32e66733387afefe382848021b838b4263f9163e69639f9486"}, {"default", "db1d23d88053d12187670d599fa02bcd4ff97f40534d5b1ebb363ba9477d0bc4"}, {"better", "c3c5e1ac89ed932186e25e850f9c806239fefba5bddd62f106cb6814aba795c6"}, {"best", "8e99f2a415960b387bd0a9443d35a326e94a29f59902af27ecb89c0ba6d57761"},
	} {
		m := Model(0)
		for l := famZstd + 1; l.zstdLevel() != 0; l++ {
			if strings.HasSuffix(l.String(), "-"+c.level) {
				m = l
			}
		}
		r := recorded{m, []int{len(plain)}, [][]byte{binary.AppendUvarint([]byte{evMember}, uint64(len(plain)))}}
		out, err := r.remake(plain, 70_000)
		if got := fmt.Sprintf("%x", sha256.Sum256(out)); err != nil || got != c.want {
			t.Errorf("%s: the encoder writes %d bytes, %s, not %s, %v", m, len(out), got, c.want, err)
		}
	}
}

// readRecipe reads a frozen recipe: the model, then for each part its plain bytes, its length and itself.
func readRecipe(t testing.TB, name string) (r recorded) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(bytes.NewReader(b))
	number := func() int {
		v, err := binary.ReadUvarint(in)
		if err != nil {
			t.Fatal(err)
		}
		return int(v)
	}
	r.model = Model(number())
	for in.Buffered() > 0 {
		r.lens = append(r.lens, number())
		p := make([]byte, number())
		if _, err := io.ReadFull(in, p); err != nil {
			t.Fatal(err)
		}
		r.parts = append(r.parts, p)
	}
	return r
}

func writeRecipe(t testing.TB, name string, r recorded) {
	t.Helper()
	b := binary.AppendUvarint(nil, uint64(r.model))
	for i, p := range r.parts {
		b = binary.AppendUvarint(b, uint64(r.lens[i]))
		b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFilesAreFrozen: files of writers that need not be on this machine are still recorded, and remade from the recipes
// that were made of them when their models were new.
func TestFilesAreFrozen(t *testing.T) {
	names, err := filepath.Glob("testdata/*.gz")
	if err != nil || len(names) < 8 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		now := rewrap(t, src)
		recipe := strings.TrimSuffix(name, ".gz") + ".recipe"
		if _, err := os.Stat(recipe); err != nil && *update {
			writeRecipe(t, recipe, now)
		}
		var plain bytes.Buffer
		if _, err := Unwrap(context.Background(), &plain, file(src), 1<<30); err != nil {
			t.Fatal(err)
		}
		then := readRecipe(t, recipe)
		got, err := then.remake(plain.Bytes(), 70_000)
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%s: %d bytes remade, %v", name, len(got), err)
		}
		if now.model != then.model || now.size(t) > then.size(t) {
			t.Errorf("%s: now %s with %d bytes, was %s with %d", name, now.model, now.size(t), then.model, then.size(t))
		}
		t.Logf("%s: %s, %d bytes of recipe for %d", name, then.model, then.size(t), len(src))
	}
}
