package mapping

import "github.com/walfence/walfence/pkg/events"

// doubt is why a key cannot be computed exactly.
type doubt uint8

const (
	certain      doubt = iota
	notPublished       // the event lacks the column
	absentOld          // not in what PostgreSQL logged of the old row
	absentNew          // nor of the new one
	unchanged          // a TOAST value that was not logged
	emptyTag           // the hash tag would be empty
	longKey            // the key would be too long
	malformed          // the event's rows do not fit its columns
)

func doubtOf(s events.State, old bool, index int) doubt {
	switch {
	case index < 0:
		return notPublished
	case s == events.Unchanged:
		return unchanged
	case old:
		return absentOld
	}
	return absentNew
}

// reason says why something is swept. Its text is only put together where it is kept.
type reason struct {
	text   string // complete, or empty
	doubt  doubt
	column string
}

func (r reason) String() string {
	if r.text != "" {
		return r.text
	}
	switch r.doubt {
	case notPublished:
		return "column " + quote(r.column) + " was not published"
	case absentOld:
		return "column " + quote(r.column) + " is not in the replica identity"
	case absentNew:
		return "column " + quote(r.column) + " was not logged"
	case unchanged:
		return "column " + quote(r.column) + " is an unchanged TOAST value outside of the replica identity"
	case emptyTag:
		return "the key's hash tag would be empty"
	case malformed:
		return "the event is malformed"
	case longKey:
		return "the key would be longer than 4096 bytes"
	}
	return ""
}
