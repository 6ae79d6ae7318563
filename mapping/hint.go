package mapping

import (
	"strconv"
	"strings"
)

// didYouMean names the nearest of what is known, or all of it where nothing is near.
func didYouMean(s string, known []string) string {
	if k := nearest(s, known); k != "" {
		return "did you mean " + quote(k) + "?"
	}
	return "known: " + strings.Join(known, ", ")
}

// nearest returns what s was probably meant to be, or nothing.
func nearest(s string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(s), k); d < at && d < len(k) {
			best, at = k, d
		}
	}
	if best == "" && len(s) > 2 {
		for _, k := range known {
			if strings.HasPrefix(k, s) || len(k) > 2 && strings.HasPrefix(s, k) {
				return k
			}
		}
	}
	return best
}

// distance is how many bytes must be inserted, removed or replaced to turn a into b. Long texts are far from everything.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// brief cuts a value of the file to what fits on a line.
func brief(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// quote shows a value of the file, shortened.
func quote(s string) string {
	return strconv.Quote(brief(s))
}
