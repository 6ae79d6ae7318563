package relay

import (
	"sync"

	"github.com/walfence/walfence/pkg/events"
)

// ledger keeps which of the transactions that were read are wholly in the stream, and so how far its floor may be. They are
// read in the order of their commits; their events are acked in any order. It is safe for concurrent use.
type ledger struct {
	mu   sync.Mutex
	ring []account // transaction n stands at n & (len-1)
	head uint64    // the oldest that is not wholly in the stream
	tail uint64    // the next to be opened

	// floor: every transaction that ended at or before it is in the stream. It only grows.
	floor events.LSN
	// published is the newest transaction, by LSN, of which all events are in the stream.
	published events.Transaction
}

// account is one transaction.
type account struct {
	tx     events.Transaction
	end    events.LSN // known when closed
	acks   int        // events that have no ack yet
	events bool       // it had any
	closed bool       // all its events are known
}

// While one transaction waits, for a synchronous standby that is away perhaps, others end by the thousand each second, and cost
// memory until it is in the stream. Above so many reading waits: 32 MB.
const openAccounts = 1 << 19

func newLedger(floor events.LSN, published events.Transaction) *ledger {
	return &ledger{ring: make([]account, 1024), floor: floor, published: published}
}

// open books a transaction whose begin was read and returns its number.
func (l *ledger) open(tx events.Transaction) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail-l.head == uint64(len(l.ring)) {
		l.grow()
	}
	*l.at(l.tail) = account{tx: tx}
	l.tail++
	return l.tail - 1
}

// event books an event that needs an ack.
func (l *ledger) event(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.at(n)
	a.acks++
	a.events = true
}

// close books that the commit was read: no event will follow.
func (l *ledger) close(n uint64, end events.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.at(n)
	a.closed, a.end = true, end
	if a.acks == 0 {
		l.done(a)
	}
	l.advance()
}

// acked books an ack.
func (l *ledger) acked(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.at(n)
	a.acks--
	if a.acks == 0 && a.closed {
		l.done(a)
		l.advance()
	}
}

// keepalive books that the server has sent everything up to an LSN: nothing of ours ends between the newest transaction and
// it. Within a transaction it says nothing.
func (l *ledger) keepalive(upTo events.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == l.tail {
		l.floor = max(l.floor, upTo)
		return
	}
	if newest := l.at(l.tail - 1); newest.closed {
		newest.end = max(newest.end, upTo)
	}
}

// state returns the floor and the newest published transaction.
func (l *ledger) state() (events.LSN, events.Transaction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor, l.published
}

// pending returns how many transactions are not wholly in the stream, and the oldest of them.
func (l *ledger) pending() (int, events.Transaction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == l.tail {
		return 0, events.Transaction{}
	}
	return int(l.tail - l.head), l.at(l.head).tx
}

func (l *ledger) done(a *account) {
	if a.events && a.tx.LSN > l.published.LSN {
		l.published = a.tx
	}
}

func (l *ledger) advance() {
	for l.head != l.tail {
		a := l.at(l.head)
		if !a.closed || a.acks > 0 {
			return
		}
		l.done(a)
		l.floor = max(l.floor, a.end)
		l.head++
	}
}

func (l *ledger) at(n uint64) *account { return &l.ring[n&uint64(len(l.ring)-1)] }

func (l *ledger) grow() {
	bigger := make([]account, 2*len(l.ring))
	for n := l.head; n != l.tail; n++ {
		bigger[n&uint64(len(bigger)-1)] = *l.at(n)
	}
	l.ring = bigger
}
