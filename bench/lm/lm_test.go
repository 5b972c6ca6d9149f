package lm

import (
	"strings"
	"testing"
)

func TestTrainingLowersTheLossAndRepeats(t *testing.T) {
	text := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog. ", 40))
	a, b := New(1), New(1)
	first := a.Train(text, 3, 1e-3, 1e-3)
	b.Train(text, 3, 1e-3, 1e-3)
	for i, p := range a.Params {
		for j := range p.Data {
			if p.Data[j] != b.Params[i].Data[j] {
				t.Fatalf("%s[%d] differs between two runs", p.Name, j)
			}
		}
	}
	if last := a.Train(text, 12, 1e-3, 1e-3); last >= first {
		t.Errorf("loss %.3f after training, %.3f before", last, first)
	}
}
