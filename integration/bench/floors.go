package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/internal/stream"
	"github.com/walfence/walfence/pkg/events"
)

// seen measures from the return of a commit to the commit's message in a bare loop, beside which nothing else runs.
func (p *probe) seen(ctx context.Context) (q quantiles, err error) {
	if err := p.rig.createSlot(ctx, latencySlot); err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, p.rig.dropSlot(context.WithoutCancel(ctx), latencySlot)) }()
	reader, err := openBareReader(ctx, p.rig.cluster.URL("postgres"), latencySlot, ownPublication)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, reader.close()) }()
	at, row := make(stamps, p.n), 0
	reader.changed = func(id string) { row, _ = strconv.Atoi(id) }
	reader.committed = func() {
		if row >= 1 && row <= p.n {
			at[row-1] = time.Now()
		}
	}
	if err := reader.start(ctx); err != nil {
		return q, err
	}
	done := make(chan error, 1)
	go func() { done <- reader.read(func(rows int) bool { return rows < p.n }) }()
	returned, err := p.commit(ctx)
	if err == nil {
		err = arrived(ctx, done)
	}
	return p.between(returned, at), err
}

// arrived waits until a reader has all, within reason.
func arrived(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(arrivalPatience):
		return fmt.Errorf("the last did not arrive within %v", arrivalPatience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sent is a message as cdc published it.
type sent struct {
	id         string
	continuity string
	body       []byte
}

// lastSent returns the newest event with rows.
func (p *pipeline) lastSent(ctx context.Context) (sent, error) {
	js, err := jetstream.New(p.nats)
	if err != nil {
		return sent{}, fmt.Errorf("use jetstream: %w", err)
	}
	changes, err := js.Stream(ctx, stream.Changes)
	if err != nil {
		return sent{}, fmt.Errorf("open stream: %w", err)
	}
	m, err := changes.GetLastMsgForSubject(ctx, changesSubject)
	if err != nil {
		return sent{}, fmt.Errorf("read newest event: %w", err)
	}
	return sent{m.Header.Get(nats.MsgIdHdr), m.Header.Get(events.HeaderContinuity), m.Data}, nil
}

var changesSubject = events.ChangesSubject("bench", events.Table{Schema: "public", Name: "items"})

// publish measures from publishing a message like cdc's to its arrival at a consumer. The server is the one in cdc, which
// waits for its database and does nothing else; publisher and consumer are nats.go in this process.
func (p *probe) publish(ctx context.Context) (q quantiles, err error) {
	line, err := p.rig.openPipeline(ctx, latencySlot, false, false)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, line.close()) }()
	js, err := jetstream.New(line.nats)
	if err != nil {
		return q, fmt.Errorf("use jetstream: %w", err)
	}
	consumer, err := js.CreateConsumer(ctx, stream.Changes, jetstream.ConsumerConfig{Durable: "floor", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return q, fmt.Errorf("create consumer: %w", err)
	}
	at, done, left := make(stamps, p.n), make(chan error, 1), p.n
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		at[binary.BigEndian.Uint64(m.Data())] = time.Now()
		if left--; left == 0 {
			done <- nil
		}
		_ = m.Ack() // a message that comes again does no harm here
	})
	if err != nil {
		return q, fmt.Errorf("consume: %w", err)
	}
	defer consuming.Stop()
	published := make(stamps, p.n)
	err = p.pace(ctx, func(i int) error {
		published[i] = time.Now()
		_, err := js.PublishMsgAsync(p.message(i))
		return err
	})
	if err == nil {
		err = arrived(ctx, done)
	}
	return p.between(published, at), err
}

// message is as large as cdc's, and carries its number in the first bytes.
func (p *probe) message(i int) *nats.Msg {
	m := nats.NewMsg(changesSubject)
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%0*d", len(p.body.id), i))
	m.Header.Set(events.HeaderContinuity, p.body.continuity)
	m.Data = append([]byte(nil), p.body.body...)
	binary.BigEndian.PutUint64(m.Data, uint64(i))
	return m
}

// unlink measures one command with a key and its guard, from this process.
func (p *probe) unlink(ctx context.Context) (q quantiles, err error) {
	if err := p.rig.fillCacheTo(ctx, p.n); err != nil {
		return q, err
	}
	from, to := make(stamps, p.n), make(stamps, p.n)
	err = p.pace(ctx, func(i int) error {
		key := fmt.Sprintf("tenant:%d:item:%d", i/100%100, i+1)
		from[i] = time.Now()
		removed, err := p.rig.cache.Unlink(ctx, key, "{"+key+"}:walfence-guard").Result()
		to[i] = time.Now()
		if err == nil && removed != 1 {
			err = fmt.Errorf("key %s was not there", key)
		}
		return err
	})
	return p.between(from, to), err
}
