package events_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walfence/walfence/pkg/events"
)

// An application's own cache, kept in step by the feed of invalidations.
func ExampleSubscriber() {
	nc, stop := exampleServer()
	defer stop()

	cached := map[string]string{"tenant:7:user:42:profile": "Ada"} // guarded by running in one goroutine
	ctx, cancel := context.WithCancel(context.Background())
	subscriber, err := events.NewSubscriber(nc, events.SubscriberOptions{
		Cache:        "main",
		FromSequence: 1, // usually left out: an empty cache needs only what comes after
		OnInvalidation: func(i *events.Invalidation) {
			for _, key := range i.Keys {
				delete(cached, key)
				fmt.Println("removed", key)
			}
			if i.All || len(i.Patterns) > 0 {
				clear(cached)
			}
			cancel() // this example has seen enough
		},
		OnGap: func(reason string) {
			clear(cached)
			fmt.Println("cleared:", reason)
		},
		OnState: func(live bool, _ string) {
			// While this is false, serve only what may be stale.
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := subscriber.Run(ctx); !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	fmt.Println(len(cached), "cached")
	// Output:
	// removed tenant:7:user:42:profile
	// 0 cached
}

// exampleServer stands for a server on which an invalidator has published one invalidation.
func exampleServer() (*nats.Conn, func()) {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	must(err)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		must(errors.New("server is not ready"))
	}
	nc, err := nats.Connect(s.ClientURL())
	must(err)
	js, err := jetstream.New(nc)
	must(err)
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "INVALIDATIONS", Subjects: []string{"invalidations.>"}})
	must(err)
	_, err = js.Publish(context.Background(), events.InvalidationSubject("main", "7"),
		[]byte(`{"v":1,"source":"shop","cache":"main","tenant":"7","epoch":1,"lsn":"0/1","keys":["tenant:7:user:42:profile"]}`))
	must(err)
	return nc, func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
