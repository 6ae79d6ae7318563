package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// deletions notes when Redis tells of the deletion of each row's key. It speaks the protocol itself: a client library would
// cost the cores that are measured.
type deletions struct {
	conn net.Conn
	at   stamps // by row, from 1, less one
	left int    // rows whose key is not gone
	done chan error
}

// listenForDeletions subscribes to the deletions of the keys of rows 1 to n.
func (r *rig) listenForDeletions(ctx context.Context, n int) (*deletions, error) {
	if err := r.cache.ConfigSet(ctx, "notify-keyspace-events", "Eg").Err(); err != nil {
		return nil, fmt.Errorf("turn on notifications: %w", err)
	}
	conn, err := net.Dial("unix", r.redis.Socket)
	if err != nil {
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	d := &deletions{conn: conn, at: make(stamps, n), left: n, done: make(chan error, 1)}
	in := bufio.NewReaderSize(conn, 64<<10)
	if _, err := conn.Write([]byte("SUBSCRIBE __keyevent@0__:del\r\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to deletions: %w", err), conn.Close())
	}
	// The answer is an array of the word, the channel and the number of subscriptions.
	for range 6 {
		if _, err := in.ReadSlice('\n'); err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe to deletions: %w", err), conn.Close())
		}
	}
	go func() { d.done <- d.read(in) }()
	return d, nil
}

// read notes deletions until it has all. Each message is an array of the word, the channel and the key: seven lines.
func (d *deletions) read(in *bufio.Reader) error {
	for d.left > 0 {
		var line []byte
		for range 7 {
			var err error
			if line, err = in.ReadSlice('\n'); err != nil {
				return fmt.Errorf("read deletions: %w; %d keys are left", err, d.left)
			}
		}
		now := time.Now()
		if i, ok := rowOf(strings.TrimSpace(string(line))); ok && i < len(d.at) && d.at[i].IsZero() {
			d.at[i] = now
			d.left--
		}
	}
	return nil
}

// rowOf returns a key's row, less one.
func rowOf(key string) (int, bool) {
	id, err := strconv.Atoi(key[strings.LastIndexByte(key, ':')+1:])
	return id - 1, err == nil && id > 0
}

// await waits until every key is gone.
func (d *deletions) await(ctx context.Context) error {
	if err := d.conn.SetReadDeadline(time.Now().Add(arrivalPatience)); err != nil {
		return fmt.Errorf("wait for deletions: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = d.conn.Close() })()
	err := <-d.done
	d.done <- err // for close
	return err
}

func (d *deletions) close() error {
	err := d.conn.Close()
	<-d.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
