package otelcache_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/walfence/walfence/pkg/cache"
	"github.com/walfence/walfence/pkg/cache/otelcache"
)

// recorder writes down what spans are told.
type recorder struct {
	started []string
	ended   []codes.Code
}

type tracing struct {
	embedded.Tracer
	recorder *recorder
}

func (t *tracing) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	config := trace.NewSpanStartConfig(opts...)
	t.recorder.started = append(t.recorder.started, name+" "+config.Attributes()[0].Value.AsString())
	return ctx, &span{recorder: t.recorder}
}

type span struct {
	noop.Span
	recorder *recorder
	status   codes.Code
}

func (s *span) SetStatus(code codes.Code, _ string) { s.status = code }

func (s *span) End(...trace.SpanEndOption) { s.recorder.ended = append(s.recorder.ended, s.status) }

type provider struct {
	embedded.TracerProvider
	recorder *recorder
}

func (p *provider) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return &tracing{recorder: p.recorder}
}

func TestSpansEndWithTheirErrors(t *testing.T) {
	r := &recorder{}
	tracer := otelcache.New(&provider{recorder: r}, "users")
	for _, err := range []error{nil, cache.ErrNotFound, errors.New("broken")} {
		_, end := tracer.Start(t.Context(), "cache.read")
		end(err)
	}
	require.Equal(t, []string{"cache.read users", "cache.read users", "cache.read users"}, r.started)
	require.Equal(t, []codes.Code{codes.Unset, codes.Unset, codes.Error}, r.ended)
}
