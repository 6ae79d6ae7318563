package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// HeaderContinuity is the header that holds a message's [Continuity].
const HeaderContinuity = "Walfence-Continuity"

// Append appends the header's text: words of name=value with a space between, values escaped as in keys.
func (c *Continuity) Append(dst []byte) []byte {
	dst = c.AppendSource(dst)
	return c.AppendProgress(dst)
}

// AppendSource appends the part that stays the same as long as a source does not change: all but floor and published.
func (c *Continuity) AppendSource(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, "v="...), Version, 10)
	dst = strconv.AppendUint(append(dst, " system="...), c.System, 10)
	dst = strconv.AppendUint(append(dst, " timeline="...), uint64(c.Timeline), 10)
	dst = AppendKeyPart(append(dst, " slot="...), c.Slot)
	dst = strconv.AppendUint(append(dst, " epoch="...), c.Epoch, 10)
	dst = AppendKeyPart(append(dst, " publication="...), c.Publication)
	dst = c.Stream.UTC().AppendFormat(append(dst, " stream="...), time.RFC3339Nano)
	dst = strconv.AppendInt(append(dst, " stats_reset_us="...), c.StatsReset.UnixMicro(), 10)
	return strconv.AppendBool(append(dst, " settling="...), c.Settling)
}

// AppendProgress appends the part that moves: floor and published.
func (c *Continuity) AppendProgress(dst []byte) []byte {
	dst = c.Floor.append(append(dst, " floor="...))
	dst = c.Published.LSN.append(append(dst, " published="...))
	dst = strconv.AppendUint(append(dst, " published_xid="...), c.Published.XID, 10)
	return strconv.AppendInt(append(dst, " published_us="...), c.Published.Time.UnixMicro(), 10)
}

// ParseContinuity reads the header's text. Words that it does not know are skipped.
func ParseContinuity(s string) (Continuity, error) {
	words := map[string]string{}
	for word := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	p := continuityParser{words: words}
	if v := p.uint("v", 16); p.err == nil && v > Version {
		return Continuity{}, &VersionError{Got: int(v)}
	}
	c := Continuity{
		System: p.uint("system", 64), Timeline: uint32(p.uint("timeline", 32)), Slot: p.words["slot"],
		Epoch: p.uint("epoch", 64), Floor: p.lsn("floor"), Publication: p.words["publication"],
		Published: Transaction{LSN: p.lsn("published"), XID: p.uint("published_xid", 64)},
		Settling:  p.words["settling"] == "true",
	}
	c.Published.Time = p.micros("published_us")
	c.Stream = p.time("stream")
	c.StatsReset = p.micros("stats_reset_us")
	if p.err != nil {
		return Continuity{}, fmt.Errorf("parse %s: %w", HeaderContinuity, p.err)
	}
	return c, nil
}

// continuityParser keeps the first error.
type continuityParser struct {
	words map[string]string
	err   error
}

func (p *continuityParser) keep(name string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (p *continuityParser) uint(name string, bits int) uint64 {
	n, err := strconv.ParseUint(p.words[name], 10, bits)
	p.keep(name, err)
	return n
}

func (p *continuityParser) lsn(name string) LSN {
	l, err := ParseLSN(p.words[name])
	p.keep(name, err)
	return l
}

func (p *continuityParser) micros(name string) time.Time {
	n, err := strconv.ParseInt(p.words[name], 10, 64)
	p.keep(name, err)
	return time.UnixMicro(n).UTC()
}

func (p *continuityParser) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, p.words[name])
	p.keep(name, err)
	return t
}
