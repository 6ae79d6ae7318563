package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/pkg/events"
)

// shownKeys is how many keys a line for people lists.
const shownKeys = 5

// humanLine describes a message of CHANGES or INVALIDATIONS.
func humanLine(m jetstream.Msg) string {
	if strings.HasPrefix(m.Subject(), "invalidations.") {
		var told events.Invalidation
		if err := json.Unmarshal(m.Data(), &told); err != nil {
			return fmt.Sprintf("%s cannot be decoded: %v", m.Subject(), err)
		}
		return invalidationLine(&told)
	}
	var e events.Event
	if err := events.Decode(m.Data(), &e); err != nil {
		return fmt.Sprintf("%s cannot be decoded: %v", m.Subject(), err)
	}
	return eventLine(&e)
}

func eventLine(e *events.Event) string {
	at := fmt.Sprintf("%s  %-10s %s", clock(e.Time), e.Kind, e.Position)
	switch e.Kind {
	case events.KindRows:
		return fmt.Sprintf("%s xid %d %s: %s", at, e.XID, printable(e.Table.String()), operations(e.Changes))
	case events.KindTruncate:
		return fmt.Sprintf("%s xid %d %s", at, e.XID, printable(e.Table.String()))
	case events.KindSweep:
		if e.Table == (events.Table{}) {
			return fmt.Sprintf("%s everything: %s", at, printable(e.Reason))
		}
		return fmt.Sprintf("%s %s: %s", at, printable(e.Table.String()), printable(e.Reason))
	case events.KindHeartbeat:
		return at
	}
	return fmt.Sprintf("%s %s", at, printable(e.Reason))
}

func operations(changes []events.Change) string {
	counts := map[events.Op]int{}
	for i := range changes {
		counts[changes[i].Op]++
	}
	var parts []string
	for _, op := range []events.Op{events.Insert, events.Update, events.Delete} {
		if n := counts[op]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, op))
		}
	}
	return strings.Join(parts, ", ")
}

func invalidationLine(i *events.Invalidation) string {
	who := "tenant " + printable(i.Tenant)
	if i.Global {
		who = "all tenants"
	}
	return fmt.Sprintf("%s  %-10s %d:%s cache %s, %s: %s", clock(i.Time), "invalid", i.Epoch, i.LSN, printable(i.Cache), who, what(i))
}

func what(i *events.Invalidation) string {
	switch {
	case i.All:
		return "everything: " + printable(i.Reason)
	case len(i.Keys) == 0:
		var globs []string
		for _, p := range i.Patterns {
			globs = append(globs, printable(p.Glob()))
		}
		return fmt.Sprintf("%s (%s): %s", strings.Join(globs, " "), strings.Join(i.Rules, ", "), printable(i.Reason))
	}
	shown, more := i.Keys, ""
	if n := len(shown) - shownKeys; n > 0 {
		shown, more = shown[:shownKeys], fmt.Sprintf(" and %d more", n)
	}
	var keys []string
	for _, k := range shown {
		keys = append(keys, printable(k))
	}
	return fmt.Sprintf("%s%s (%s)", strings.Join(keys, " "), more, strings.Join(i.Rules, ", "))
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }

// printable quotes what could play tricks on a terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}
