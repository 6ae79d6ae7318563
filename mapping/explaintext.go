package mapping

import (
	"fmt"
	"strings"
)

// String returns the explanation as text of several lines.
func (x Explanation) String() string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(string(x.Kind) + " " + x.Table))
	if x.Whole != "" {
		b.WriteString(": everything is invalid: " + x.Whole)
	}
	b.WriteByte('\n')
	for _, r := range x.Rules {
		r.write(&b)
	}
	return b.String()
}

func (r *RuleExplanation) write(b *strings.Builder) {
	fmt.Fprintf(b, "  rule %s", r.Rule)
	if r.Nothing != "" {
		b.WriteString(": nothing: " + r.Nothing)
	}
	b.WriteByte('\n')
	writeEffects(b, r.Effects, "    ")
	for i := range r.Changes {
		c := &r.Changes[i]
		b.WriteString("    " + c.Op)
		if c.Nothing != "" {
			b.WriteString(": nothing: " + c.Nothing)
		}
		b.WriteByte('\n')
		writeEffects(b, c.Effects, "      ")
		for _, note := range c.Notes {
			b.WriteString("      note: " + note + "\n")
		}
	}
}

func writeEffects(b *strings.Builder, effects []Effect, indent string) {
	for _, e := range effects {
		b.WriteString(indent + e.String() + "\n")
	}
}

// String returns the effect on one line.
func (e Effect) String() string {
	switch e.Action {
	case "bump":
		return fmt.Sprintf("bump %s in %s: %s", e.Scope, e.Cache, e.Key)
	case "refresh":
		return fmt.Sprintf("refresh %s in %s by %s", e.Key, e.Cache, queryText(e))
	case "lookup":
		return "look up " + queryText(e)
	case "purge":
		if e.Key != "" {
			return "purge " + e.Key
		}
		return fmt.Sprintf("purge %s %s", e.Method, e.URL)
	case "sweep":
		who := "tenant " + quote(e.Tenant)
		if e.All {
			who = "all tenants"
		}
		return fmt.Sprintf("sweep %s: %s", who, e.Cause)
	}
	return fmt.Sprintf("%s %s in %s", e.Action, e.Key, e.Cache)
}

// queryText returns a query on one line, with its parameters.
func queryText(e Effect) string {
	text := strings.Join(strings.Fields(e.Query), " ")
	for i, p := range e.Params {
		if i == 0 {
			text += " with "
		} else {
			text += ", "
		}
		text += fmt.Sprintf("$%d = %s", i+1, quote(p))
	}
	return text
}
