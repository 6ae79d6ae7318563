package stream

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	pullMessages  = 2000
	pullBytes     = 4 << 20
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second

	// MaxAckPending is how many messages may be in the hands of all invalidators together: at 60,000 a second, a third of
	// a second's.
	MaxAckPending = 20_000
)

// identity tells one consumer on the server from its successor of the same name.
type identity struct{ stream, consumer time.Time }

func (i identity) equal(o identity) bool {
	return i.stream.Equal(o.stream) && i.consumer.Equal(o.consumer)
}

// intake is where the messages of one consumer on the server arrive, over all reconnects.
type intake struct {
	identity identity
	messages chan *nats.Msg // larger than any credit, since nats.go drops what does not fit
	over     chan struct{}  // closed when another intake has taken its place
	seen     atomic.Int64   // when a worker last took something, Unix nanoseconds
	pull     puller
}

func newIntake(id identity) *intake {
	return &intake{
		identity: id,
		messages: make(chan *nats.Msg, 4*pullMessages),
		over:     make(chan struct{}),
	}
}

func (in *intake) touch() { in.seen.Store(time.Now().UnixNano()) }

// silent tells whether the server has said nothing for longer than its heartbeats allow. What waits for busy workers
// counts as having been said.
func (in *intake) silent() bool {
	return len(in.messages) == 0 && time.Since(time.Unix(0, in.seen.Load())) > 2*pullHeartbeat+time.Second
}

// puller asks the server for more before what it asked for is used up. Each pull is bounded in messages and bytes, and at
// most two are open, so that is also what can wait here.
type puller struct {
	mu     sync.Mutex
	nc     *nats.Conn
	to     string // the subject that asks
	inbox  string // where the answers go
	bytes  int
	credit int // messages that the server may still send
}

// restart forgets earlier pulls, whose inbox has gone, and asks anew.
func (p *puller) restart(nc *nats.Conn, to, inbox string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nc, p.to, p.inbox, p.credit = nc, to, inbox, 0
	p.bytes = max(pullBytes, int(nc.MaxPayload())+64<<10) // a message that exceeds a whole pull would never come
	return p.refill()
}

// used says that n messages were taken, or will not come. An error is a connection that is away: the supervisor sees it.
func (p *puller) used(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.credit = max(p.credit-n, 0)
	_ = p.refill()
}

func (p *puller) refill() error {
	if p.credit > pullMessages/2 || p.nc == nil {
		return nil
	}
	n := pullMessages - p.credit
	request, err := json.Marshal(pullRequest{
		Batch: n, MaxBytes: p.bytes, Expires: pullExpires, Heartbeat: pullHeartbeat,
	})
	if err != nil {
		return err
	}
	if err := p.nc.PublishRequest(p.to, p.inbox, request); err != nil {
		return fmt.Errorf("ask for messages: %w", err)
	}
	p.credit += n
	return nil
}

type pullRequest struct {
	Batch     int           `json:"batch"`
	MaxBytes  int           `json:"max_bytes"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat"`
}

// status reads a message from the server itself: how many messages of a pull will not come, and an error if the consumer
// must be looked up again.
func status(m *nats.Msg) (unused int, err error) {
	reason := m.Header.Get("Description")
	switch m.Header.Get("Status") {
	case "100": // idle heartbeat
		return 0, nil
	case "404", "408": // nothing there, expired
	case "409":
		if s := strings.ToLower(reason); !strings.HasPrefix(s, "message size") && !strings.HasPrefix(s, "batch completed") {
			return 0, fmt.Errorf("pull messages: %s", reason)
		}
	case "503":
		return 0, fmt.Errorf("pull messages: %w", nats.ErrNoResponders)
	default:
		return 0, fmt.Errorf("pull messages: status %s %s", m.Header.Get("Status"), reason)
	}
	unused, _ = strconv.Atoi(m.Header.Get("Nats-Pending-Messages")) // absent is none
	return unused, nil
}

func nextSubject(stream, consumer string) string {
	return jetstream.DefaultAPIPrefix + "CONSUMER.MSG.NEXT." + stream + "." + consumer
}
