package rollout

import (
	"fmt"
	"strconv"
	"strings"
)

// maxPath bounds the length of a path, in bytes.
const maxPath = 512

// pathStep is one step of a path: a name, an index, or all elements.
type pathStep struct {
	name  string
	index int
	kind  byte // '.' name, 'i' index, '*' all
}

// parsePath reads $, .name, [n] and [*]. Nothing else is of the subset.
func parsePath(path string) ([]pathStep, error) {
	if len(path) > maxPath || !strings.HasPrefix(path, "$") {
		return nil, fmt.Errorf("jsonpath %.64q: want $ and at most %d bytes", path, maxPath)
	}
	var steps []pathStep
	for rest := path[1:]; rest != ""; {
		switch rest[0] {
		case '.':
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			if end == 1 {
				return nil, fmt.Errorf("jsonpath %q: empty name", path)
			}
			steps = append(steps, pathStep{kind: '.', name: rest[1:end]})
			rest = rest[end:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("jsonpath %q: [ without ]", path)
			}
			step := pathStep{kind: '*'}
			if in := rest[1:end]; in != "*" {
				n, err := strconv.ParseUint(in, 10, 31)
				if err != nil {
					return nil, fmt.Errorf("jsonpath %q: want a number or * in brackets", path)
				}
				step = pathStep{kind: 'i', index: int(n)}
			}
			steps = append(steps, step)
			rest = rest[end+1:]
		default:
			return nil, fmt.Errorf("jsonpath %q: unexpected %q", path, rest[0])
		}
	}
	return steps, nil
}

// selectPath walks a decoded JSON value. What is missing on the way selects nothing.
func selectPath(v any, steps []pathStep) []any {
	found := []any{v}
	for _, s := range steps {
		var next []any
		for _, f := range found {
			switch s.kind {
			case '.':
				if m, ok := f.(map[string]any); ok {
					if c, ok := m[s.name]; ok {
						next = append(next, c)
					}
				}
			case 'i':
				if a, ok := f.([]any); ok && s.index < len(a) {
					next = append(next, a[s.index])
				}
			case '*':
				if a, ok := f.([]any); ok {
					next = append(next, a...)
				}
			}
		}
		found = next
	}
	return found
}
