package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walfence/walfence/mapping"
)

// refuse returns why a program cannot be run: it asks for something that this invalidator does not do yet. To leave that
// out silently would be a lost invalidation.
func refuse(p *mapping.Program) error {
	needs := p.Needs()
	var missing []string
	for name, needed := range map[string]bool{
		"refresh": needs.Refreshes, "through": needs.Lookups, "purge": needs.Purges,
	} {
		if needed {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("the rules use %s, which this version cannot do yet", strings.Join(missing, ", "))
}
