#!/bin/bash
# Runs every fuzz target of the project for a while: fuzz.sh 60s
set -euo pipefail
cd "$(dirname "$0")/.."
for_each=${1:-60s}
found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  echo "== $(dirname "$file") $target"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$for_each" -fuzzminimizetime 20x "./$(dirname "$file")"
done < <(grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z]*' bundle delta sign registry install rollout internal | sed 's/func //')
[ "$found" -gt 10 ] || { echo "only $found fuzz targets were found: the search is broken" >&2; exit 1; }
