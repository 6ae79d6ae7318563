// Package stream is JetStream as walfence uses it: the connection, the server inside cdc, the streams, the consumer, the
// dead letters and the janitor.
//
// Its promise: what JetStream acknowledged to a publisher is handed to a consumer's handler until the handler has
// succeeded, or the loss is reported as a gap; it is never dropped to make room.
package stream
