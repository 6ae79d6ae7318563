package stream

import (
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

type consumerMetrics struct {
	messages, bytes, batches, failed, rebuilds, gaps prometheus.Counter
}

func newConsumerMetrics(r prometheus.Registerer) consumerMetrics {
	counter := func(name, help string) prometheus.Counter {
		return register(r, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	return consumerMetrics{
		messages: counter("walfence_consumer_messages_total", "Messages handed to workers, again included."),
		bytes:    counter("walfence_consumer_bytes_total", "Bytes of their bodies."),
		batches:  counter("walfence_consumer_batches_total", "Batches handed to workers."),
		failed:   counter("walfence_consumer_failed_batches_total", "Batches that were not handled and come again."),
		rebuilds: counter("walfence_consumer_rebuilds_total", "Times the consumer had to be taken up again."),
		gaps:     counter("walfence_consumer_gaps_total", "Times changes may have been lost before they were handled."),
	}
}

func (m consumerMetrics) taken(batch []*nats.Msg) {
	bytes := 0
	for _, msg := range batch {
		bytes += len(msg.Data)
	}
	m.messages.Add(float64(len(batch)))
	m.bytes.Add(float64(bytes))
	m.batches.Inc()
}
