package support

// settle is how often the literal pass may find something in the same text before the text is withheld.
const settle = 8

// withheld stands where a text could not be made clean.
const withheld = "[-]\n"

// scrubber redacts free text.
type scrubber struct{ m *matcher }

// literal masks literals until none is left. Each round shrinks the text; one that has not settled in time goes.
func (s *scrubber) literal(text []byte, hit func(string, int)) []byte {
	for range settle {
		var n int
		if text, n = s.m.replace(text, []byte(mask)); n == 0 {
			return text
		}
		hit("secret-value", n)
	}
	if !s.m.found(text) {
		return text
	}
	hit("withheld", 1)
	return []byte(withheld)
}

// text runs literals, patterns, and literals again, since a pattern may have joined what was apart.
func (s *scrubber) text(text []byte, hit func(string, int)) []byte {
	return s.literal(scrubPatterns(s.literal(text, hit), hit), hit)
}
