package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// requestTimeout bounds one question to JetStream; a denied subject never answers.
const requestTimeout = 5 * time.Second

// lookEvery must stay below the time for which the janitor spares what was acknowledged, or its work looks like a loss.
const lookEvery = time.Second

var (
	errReconnected = errors.New("reconnected")
	errSilent      = errors.New("the server sent no heartbeat")
	errGap         = errors.New("messages expired before they were handled")
	errOther       = errors.New("the consumer is another one of the same name")
)

// supervise keeps messages coming until ctx ends.
func (c *Consumer) supervise(ctx context.Context) {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	attempt, logged := 0, time.Time{}
	for ctx.Err() == nil {
		began, err := c.attend(ctx)
		if ctx.Err() != nil {
			return
		}
		if began {
			wait.Reset()
			attempt, logged = 0, time.Time{}
		}
		attempt++
		c.metrics.rebuilds.Inc()
		c.opt.State(false, err.Error())
		if time.Since(logged) >= time.Minute {
			logged = time.Now()
			c.opt.Log.Warn("consumer interrupted, taking it up again", zap.Int("attempt", attempt), zap.Error(err))
		}
		if !errors.Is(err, errReconnected) {
			pause(ctx, wait.NextBackOff())
		}
	}
}

// attend takes up the consumer and returns why it must be taken up again, and whether it had begun.
func (c *Consumer) attend(ctx context.Context) (began bool, err error) {
	changed := c.nc.StatusChanged(nats.CONNECTED)
	defer c.nc.RemoveStatusListener(changed)
	in, err := c.openUnless(ctx, changed)
	if err != nil {
		return false, err
	}
	inbox := c.nc.NewInbox()
	sub, err := c.nc.ChanSubscribe(inbox, in.messages)
	if err != nil {
		return false, fmt.Errorf("subscribe to inbox: %w", err)
	}
	defer sub.Unsubscribe()
	in.touch()
	if err := in.pull.restart(c.nc, nextSubject(c.opt.Stream, c.opt.Name), inbox); err != nil {
		return false, err
	}
	c.opt.State(true, "")
	return true, c.watch(ctx, in, changed)
}

// openUnless opens, but gives up as soon as there is another connection: what was asked on the old one is never answered.
func (c *Consumer) openUnless(ctx context.Context, connected <-chan nats.Status) (*intake, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	opened := make(chan struct{})
	var other sync.WaitGroup
	other.Go(func() {
		select {
		case <-connected:
			stop(errReconnected)
		case <-opened:
		}
	})
	in, err := c.open(ctx)
	close(opened)
	other.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errReconnected) {
		return nil, cause
	}
	return in, err
}

// watch returns why the consumer must be taken up again.
func (c *Consumer) watch(ctx context.Context, in *intake, connected <-chan nats.Status) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-connected:
			return errReconnected
		case err := <-c.trouble:
			return err
		case <-tick.C:
			if !c.nc.IsConnected() {
				continue // connected will tell
			}
			if in.silent() {
				return errSilent
			}
			if err := c.look(ctx); err != nil {
				return err
			}
		}
	}
}

// look notices messages that expire while nobody handles them: the floor alone will not show it, since the server moves it
// over them.
func (c *Consumer) look(ctx context.Context) error {
	stream, err := c.stream(ctx)
	if err != nil {
		return err
	}
	info, err := c.info(ctx, stream)
	if err != nil {
		return err
	}
	if !c.intake.Load().identity.equal(identity{stream.CachedInfo().Created, info.Created}) {
		return errOther
	}
	if lost(stream.CachedInfo(), c.seen) != "" {
		return errGap
	}
	c.seen = max(c.seen, info.AckFloor.Stream)
	return nil
}

// open looks up the durable consumer, creates it where it is missing, and reports gaps before anything is taken.
func (c *Consumer) open(ctx context.Context) (*intake, error) {
	stream, err := c.stream(ctx)
	if err != nil {
		return nil, err
	}
	created := stream.CachedInfo().Created
	if known := c.intake.Load().identity; !known.stream.IsZero() && !known.stream.Equal(created) {
		if err := c.gap(ctx, "the stream was created anew"); err != nil {
			return nil, err
		}
	}
	info, err := c.durable(ctx, stream)
	if err != nil {
		return nil, err
	}
	return c.adopt(identity{stream: created, consumer: info.Created}), nil
}

func (c *Consumer) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.opt.Stream)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", c.opt.Stream, err)
	}
	return stream, nil
}

func (c *Consumer) gap(ctx context.Context, reason string) error {
	c.metrics.gaps.Inc()
	c.opt.Log.Warn("changes may have been lost before they were handled", zap.String("reason", reason))
	if err := c.opt.Gap(ctx, reason); err != nil {
		return fmt.Errorf("handle gap: %w", err)
	}
	return nil
}

// adopt returns where the messages of this consumer arrive: as before, or if it is another consumer, a new place.
func (c *Consumer) adopt(id identity) *intake {
	old := c.intake.Load()
	if old.identity.equal(id) {
		return old
	}
	in := newIntake(id)
	c.intake.Store(in)
	close(old.over)
	return in
}
