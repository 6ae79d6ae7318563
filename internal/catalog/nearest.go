package catalog

import (
	"strings"

	"github.com/walfence/walfence/pkg/events"
)

// nearest returns the candidate that somebody who wrote name most likely meant, or "".
func nearest(name string, candidates []string) string {
	best, least := "", max(1, len(name)/3)+1
	for _, candidate := range candidates {
		d := distance(strings.ToLower(name), strings.ToLower(candidate))
		if d < least {
			best, least = candidate, d
		}
	}
	return best
}

// nearestTable looks for the same name in another schema first, then for a similar one in the same schema.
func nearestTable(t events.Table, candidates []events.Table) string {
	var names []string
	for _, c := range candidates {
		if c.Schema == t.Schema {
			names = append(names, c.Name)
		} else if c.Name == t.Name {
			return quoted(c)
		}
	}
	if name := nearest(t.Name, names); name != "" {
		return quoted(events.Table{Schema: t.Schema, Name: name})
	}
	return ""
}

func meant(name string, write func(string) string) string {
	if name == "" {
		return ""
	}
	return "did you mean " + write(name) + "?"
}

// distance counts the insertions, deletions and replacements of bytes that lead from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
