// Bench measures the delta engine of wcbundle beside other tools and makes the page docs/benchmarks.md.
//
//	go run . [flags] [fetch] [run] [page]
//
// It runs programs only; of wcbundle it knows the two commands
//
//	wcbundle delta make --level LEVEL -j JOBS -o DELTA OLD NEW
//	wcbundle delta apply -j JOBS -o OUT OLD DELTA
//
// See README.md for what has to be installed, corpus.json for the test files, and targets.go for what is wanted.
package main
