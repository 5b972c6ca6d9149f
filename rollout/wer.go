package rollout

import (
	"fmt"
	"strings"
	"unicode"
)

// maxWords bounds the words that are compared: the comparison takes time with the product of both.
const maxWords = 2000

// wordErrorRate is the fewest substitutions, deletions and insertions that make one text of the other, by the words of the reference
// (Levenshtein 1966 over words; NIST SCTK's WER). Case and punctuation do not count. It may exceed 1.
func wordErrorRate(reference, text string) (float64, error) {
	ref, got := words(reference), words(text)
	if len(ref) == 0 {
		return 0, fmt.Errorf("the reference has no words")
	}
	if len(ref) > maxWords || len(got) > maxWords {
		return 0, fmt.Errorf("%d words are compared with %d, at most %d each", len(got), len(ref), maxWords)
	}
	row := make([]int, len(got)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range ref {
		diagonal := row[0]
		row[0] = i + 1
		for j, g := range got {
			cost := diagonal
			if r != g {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return float64(row[len(got)]) / float64(len(ref)), nil
}

// words are runs of letters, digits, marks and apostrophes inside of them.
func words(text string) []string {
	text = strings.ToLower(strings.ReplaceAll(text, "\u2019", "'"))
	out := strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != '\''
	})
	kept := out[:0]
	for _, w := range out {
		if w = strings.Trim(w, "'"); w != "" {
			kept = append(kept, w)
		}
	}
	return kept
}
