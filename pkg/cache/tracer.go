package cache

import "context"

// Tracer starts spans: cache.read, and in it cache.load, cache.wait and cache.fill. Without one, nothing is spent on
// tracing. Package otelcache has one for OpenTelemetry. It is used from many goroutines.
type Tracer interface {
	// Start begins a span. Its end is called once, with what went wrong or nil.
	Start(ctx context.Context, span string) (_ context.Context, end func(error))
}
