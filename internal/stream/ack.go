package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Receipt is a message that the stream has acked.
type Receipt struct {
	Seq uint64
	ID  string
}

// Newest returns the highest sequence that the stream has acked, with its message.
func (p *Publisher) Newest() Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// Doubt returns a message that the stream acked and may have lost since: after it, another one was stored at no higher a
// sequence. Seq is 0 where there is none.
func (p *Publisher) Doubt() Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doubt
}

// Settle ends a doubt that was looked into.
func (p *Publisher) Settle(doubt Receipt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubt == doubt {
		p.doubt = Receipt{}
	}
}

// Forget makes [Publisher.Newest] and [Publisher.Doubt] start over: the stream is another one.
func (p *Publisher) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest, p.doubt = Receipt{}, Receipt{}
}

// receive books where a message stands. Acks of different leaders of a cluster may overtake one another: a sequence that
// does not grow is a reason for doubt, and no proof.
func (p *Publisher) receive(ack Ack, id string) {
	if ack.Duplicate {
		return
	}
	if ack.Seq <= p.newest.Seq && p.doubt.Seq == 0 {
		p.doubt = p.newest
	}
	p.newest = Receipt{Seq: ack.Seq, ID: id}
}

// reply takes one ack, or one refusal.
func (p *Publisher) reply(msg *nats.Msg) {
	index, try, err := p.parseReply(msg.Subject)
	if err != nil {
		p.opt.Log.Error("ack on an unknown subject", zap.Error(err))
		return
	}
	ack, refused := parseAck(msg)
	p.mu.Lock()
	if index < p.head || index >= p.tail {
		p.mu.Unlock()
		return // acked before, by the answer to another attempt
	}
	item := *p.at(index)
	if item.acked {
		p.mu.Unlock()
		return
	}
	if refused != nil {
		p.mu.Unlock()
		p.fail(item, try, refused)
		p.signal()
		return
	}
	if try == item.try && !ack.Duplicate {
		ack.Stamp = item.stamp
	}
	p.receive(ack, item.m.ID)
	p.settle(item)
	p.mu.Unlock()
	if item.m.Done != nil {
		item.m.Done(ack)
	}
	p.advance()
}

// settle books an ack. It counts whichever attempt it answers: the stream has the message.
func (p *Publisher) settle(item *pending) {
	item.acked = true
	if item.try == p.try {
		p.flying--
	}
	if !p.failed.IsZero() && p.err == nil {
		p.opt.Log.Info("publishing goes on", zap.Duration("waited", time.Since(p.failed)))
		p.failed = time.Time{}
	}
}

// advance moves the head over what is acked. It comes after Done, so that Flush returns after every Done.
func (p *Publisher) advance() {
	p.mu.Lock()
	full := p.flying+1 >= p.opt.Window
	for p.head != p.tail && (*p.at(p.head)).acked {
		p.bytes -= len((*p.at(p.head)).m.Body)
		*p.at(p.head) = nil
		p.head++
	}
	p.next = max(p.next, p.head)
	for len(p.flushes) > 0 && p.flushes[0].upTo <= p.head {
		close(p.flushes[0].done)
		p.flushes = p.flushes[1:]
	}
	wake := full || p.err != nil
	p.mu.Unlock()
	if wake {
		p.signal()
	}
}

func (p *Publisher) parseReply(subject string) (index, try uint64, err error) {
	a, b, ok := strings.Cut(strings.TrimPrefix(subject, p.inbox), "-")
	if !ok {
		return 0, 0, fmt.Errorf("parse reply subject %q", subject)
	}
	index, err1 := strconv.ParseUint(a, 36, 64)
	try, err2 := strconv.ParseUint(b, 36, 64)
	return index, try, errors.Join(err1, err2)
}

// parseAck reads a PubAck. The usual one is read without a JSON decoder: there is one for every message.
func parseAck(msg *nats.Msg) (Ack, error) {
	if len(msg.Data) == 0 {
		if msg.Header.Get("Status") == "503" {
			return Ack{}, nats.ErrNoResponders
		}
		return Ack{}, errors.New("empty ack")
	}
	if seq, ok := plainAck(msg.Data); ok {
		return Ack{Seq: seq}, nil
	}
	var body struct {
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &body); err != nil {
		return Ack{}, fmt.Errorf("parse ack: %w", err)
	}
	if body.Error != nil {
		return Ack{}, fmt.Errorf("stream refused the message: %s (%d)", body.Error.Description, body.Error.Code)
	}
	return Ack{Seq: body.Seq, Duplicate: body.Duplicate}, nil
}

// plainAck reads {"stream":"NAME","seq":N} and nothing else.
func plainAck(data []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"stream":"`))
	if !ok {
		return 0, false
	}
	_, rest, ok = bytes.Cut(rest, []byte(`","seq":`))
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return 0, false
	}
	var seq uint64
	for _, c := range rest[:len(rest)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		seq = seq*10 + uint64(c-'0')
	}
	return seq, true
}
