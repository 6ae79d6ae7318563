package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The streams' names.
const (
	Changes       = "CHANGES"
	Invalidations = "INVALIDATIONS"
	DeadLetters   = "DEADLETTERS"
)

const (
	defaultMaxBytes = 8 << 30
	defaultMaxAge   = 24 * time.Hour

	// A subscriber that is away longer than the feed reaches clears what it holds: an hour serves any reconnect.
	feedMaxBytes = 256 << 20
	feedMaxAge   = time.Hour

	deadLettersMaxBytes = 256 << 20
	deadLettersMaxAge   = 30 * 24 * time.Hour

	// A publisher repeats a message within seconds. The server keeps every id of this window in memory, about 150 bytes
	// each: two minutes of 60,000 messages a second would be a gigabyte, and marking them a tenth of the time. A repeat that it does not see does no harm.
	duplicates = 2 * time.Second
	// shortest that JetStream has: for a stream whose messages have no ids, off.
	noDuplicates = 100 * time.Millisecond
)

// Streams is what is known of the three streams. Their Created times tell a re-created stream from the known one.
type Streams struct {
	Changes, Invalidations, DeadLetters *jetstream.StreamInfo
	// Kept says which wanted limits were not set, because setting them would have dropped messages.
	Kept []string
}

// ErrStreamMissing means that cdc has not set up JetStream yet.
var ErrStreamMissing = errors.New("stream does not exist yet")

// UnfitError means that a stream exists whose properties break the promise, and which only its owner may change.
type UnfitError struct {
	Stream   string
	Problems []string
}

// Error says what differs and what to do.
func (e *UnfitError) Error() string {
	return fmt.Sprintf("stream %s exists but cannot be used: %s; change it with `nats stream edit %s`, or remove it so that it is created anew",
		e.Stream, strings.Join(e.Problems, "; "), e.Stream)
}

// Ensure creates the streams that are missing, brings the limits of the others up to date, and refuses, with an
// [UnfitError], what would break the promise. cdc calls it; nobody else changes streams.
func Ensure(ctx context.Context, js jetstream.JetStream, cfg Config) (Streams, error) {
	var s Streams
	for _, want := range []struct {
		info   **jetstream.StreamInfo
		config jetstream.StreamConfig
	}{
		{&s.Changes, changesConfig(cfg)}, {&s.Invalidations, feedConfig(cfg)}, {&s.DeadLetters, deadLettersConfig(cfg)},
	} {
		info, kept, err := ensure(ctx, js, want.config)
		if err != nil {
			return s, err
		}
		*want.info, s.Kept = info, append(s.Kept, kept...)
	}
	return s, nil
}

// Open returns the streams as they are. The error is [ErrStreamMissing] where one is not there, and an [UnfitError] where
// one would break the promise.
func Open(ctx context.Context, js jetstream.JetStream) (Streams, error) {
	var s Streams
	for _, want := range []struct {
		info   **jetstream.StreamInfo
		config jetstream.StreamConfig
	}{
		{&s.Changes, changesConfig(Config{})}, {&s.Invalidations, feedConfig(Config{})}, {&s.DeadLetters, deadLettersConfig(Config{})},
	} {
		stream, err := js.Stream(ctx, want.config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return s, fmt.Errorf("open stream %s: %w", want.config.Name, ErrStreamMissing)
		}
		if err != nil {
			return s, fmt.Errorf("open stream %s: %w", want.config.Name, err)
		}
		*want.info = stream.CachedInfo()
		if err := unfit((*want.info).Config, want.config); err != nil {
			return s, err
		}
	}
	return s, nil
}

func changesConfig(cfg Config) jetstream.StreamConfig {
	age := orDefault(cfg.MaxAge, defaultMaxAge)
	return jetstream.StreamConfig{
		Name: Changes, Description: "walfence: committed changes",
		Subjects:  []string{"changes.>"},
		Storage:   jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, // acked messages stay for a replay
		Discard:   jetstream.DiscardNew,   // a full stream pushes back
		MaxBytes:  orDefault(cfg.MaxBytes, defaultMaxBytes), MaxAge: age,
		MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Replicas:   max(cfg.Replicas, 1),
		Duplicates: min(duplicates, age),
		DenyDelete: true, // a message deleted by hand is an invalidation lost
	}
}

func feedConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: Invalidations, Description: "walfence: invalidations that were applied",
		Subjects:  []string{"invalidations.>"},
		Storage:   jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy,
		Discard:   jetstream.DiscardOld, // who misses some clears what it holds
		MaxBytes:  feedMaxBytes, MaxAge: feedMaxAge,
		MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Replicas:   max(cfg.Replicas, 1),
		Duplicates: noDuplicates,
	}
}

func deadLettersConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: DeadLetters, Description: "walfence: copies of what could not be handled exactly",
		Subjects:  []string{"deadletters.>"},
		Storage:   jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy,
		Discard:   jetstream.DiscardOld, // they are for people to look at; the change itself was widened
		MaxBytes:  deadLettersMaxBytes, MaxAge: deadLettersMaxAge,
		MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Replicas:   max(cfg.Replicas, 1),
		Duplicates: duplicates,
	}
}

func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (info *jetstream.StreamInfo, kept []string, err error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if stream, err = js.CreateStream(ctx, want); err != nil {
			return nil, nil, fmt.Errorf("create stream %s: %w", want.Name, err)
		}
		return stream.CachedInfo(), nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open stream %s: %w", want.Name, err)
	}
	info = stream.CachedInfo()
	if err := unfit(info.Config, want); err != nil {
		return nil, nil, err
	}
	next, kept := merge(info, want)
	if same(info.Config, next) {
		return info, kept, nil
	}
	if stream, err = js.UpdateStream(ctx, next); err != nil {
		return nil, nil, fmt.Errorf("update stream %s: %w", want.Name, err)
	}
	return stream.CachedInfo(), kept, nil
}

// unfit reports what is not ours to change: somebody chose it, or changing it would drop messages.
func unfit(have, want jetstream.StreamConfig) error {
	var problems []string
	differ := func(what string, have, want any) {
		if have != want {
			problems = append(problems, fmt.Sprintf("%s is %v, must be %v", what, have, want))
		}
	}
	differ("storage", have.Storage, want.Storage)
	differ("retention", have.Retention, want.Retention)
	differ("discard", have.Discard, want.Discard)
	differ("sealed", have.Sealed, false)
	differ("no_ack", have.NoAck, false)
	differ("per-message TTL", have.AllowMsgTTL, false)
	differ("mirror", have.Mirror != nil, false)
	differ("sources", len(have.Sources) > 0, false)
	differ("subject transform", have.SubjectTransform != nil, false)
	differ("message limit per subject", max(have.MaxMsgsPerSubject, -1), int64(-1))
	if want.Discard == jetstream.DiscardNew {
		differ("message size limit", max(have.MaxMsgSize, -1), int32(-1))
	}
	for _, subject := range want.Subjects {
		if !slices.Contains(have.Subjects, subject) {
			problems = append(problems, fmt.Sprintf("subjects are %v, must contain %s", have.Subjects, subject))
		}
	}
	if problems != nil {
		return &UnfitError{Stream: want.Name, Problems: problems}
	}
	return nil
}

// merge returns what the stream is to become: everything that somebody set stays, except for the limits that are ours.
func merge(info *jetstream.StreamInfo, want jetstream.StreamConfig) (next jetstream.StreamConfig, kept []string) {
	next = info.Config
	next.MaxAge, next.Replicas, next.Duplicates = want.MaxAge, want.Replicas, want.Duplicates
	next.DenyDelete = next.DenyDelete || want.DenyDelete
	if want.Discard == jetstream.DiscardNew && uint64(want.MaxBytes) < info.State.Bytes {
		kept = append(kept, fmt.Sprintf("%s keeps %d bytes, above the wanted limit of %d", want.Name, info.State.Bytes, want.MaxBytes))
	} else {
		next.MaxBytes = want.MaxBytes
	}
	return next, kept
}

func same(a, b jetstream.StreamConfig) bool {
	return a.MaxAge == b.MaxAge && a.Replicas == b.Replicas && a.Duplicates == b.Duplicates &&
		a.MaxBytes == b.MaxBytes && a.DenyDelete == b.DenyDelete
}

func orDefault[T ~int64](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}
