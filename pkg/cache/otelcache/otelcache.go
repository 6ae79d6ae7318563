// Package otelcache traces package cache with OpenTelemetry.
//
// Its promise: a span never holds a key, a tenant or a value; and an application that does not import it has nothing of
// OpenTelemetry in it.
package otelcache

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/walfence/walfence/pkg/cache"
)

// New returns what [cache.WithTracer] takes. The name is that of the cache, for the attribute walfence.cache.
func New(provider trace.TracerProvider, name string) cache.Tracer {
	return &tracer{
		tracer: provider.Tracer("github.com/walfence/walfence/pkg/cache"),
		start:  trace.WithAttributes(attribute.String("walfence.cache", name)),
	}
}

type tracer struct {
	tracer trace.Tracer
	start  trace.SpanStartEventOption
}

// Start begins a span. That there is no value is no error.
func (t *tracer) Start(ctx context.Context, name string) (context.Context, func(error)) {
	ctx, span := t.tracer.Start(ctx, name, t.start)
	return ctx, func(err error) {
		if err != nil && !errors.Is(err, cache.ErrNotFound) {
			span.SetStatus(codes.Error, "")
			span.SetAttributes(attribute.Bool("walfence.unavailable", errors.Is(err, cache.ErrUnavailable)))
		}
		span.End()
	}
}
