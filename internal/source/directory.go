package source

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/relay"
	"github.com/walfence/walfence/mapping"
	"github.com/walfence/walfence/pkg/events"
)

// directory finds the table of the rules that a relation of the stream belongs to. It serves the goroutine that reads.
type directory struct {
	url    string
	tables []*catalog.Table
	known  map[uint32]catalog.Storage
	needs  map[events.Table]mapping.Table
	ours   bool // the publication has no other tables
}

func newDirectory(ctx context.Context, url string, conn *pgx.Conn, tables []*catalog.Table, needs []mapping.Table, ours bool) (*directory, error) {
	known, err := catalog.Storages(ctx, conn, tables)
	if err != nil {
		return nil, err
	}
	d := &directory{url: url, tables: tables, known: known, needs: map[events.Table]mapping.Table{}, ours: ours}
	for _, need := range needs {
		d.needs[need.Table] = need
	}
	return d, nil
}

const lookupTimeout = 5 * time.Second

// Find is part of relay.Tables. A relation that was not there when the session began, a new partition for example, is
// looked up on a connection of its own.
func (d *directory) Find(oid uint32, name events.Table) (relay.Watched, bool, error) {
	s, ok := d.known[oid]
	if !ok {
		var err error
		if s, ok, err = d.lookUp(oid); err != nil {
			return relay.Watched{}, false, err
		}
	}
	if !ok {
		return d.byName(name)
	}
	w := relay.Watched{Table: s.Table, Columns: d.needs[s.Table].Columns, Typed: d.needs[s.Table].Typed}
	if s.Relation != s.Table {
		w.Partition = s.Relation
	}
	return w, true, nil
}

// byName takes a relation that is no part of a table of the rules any more. In our own publication everything was one when
// it was written: a table that was dropped since still has its name, but what a partition belonged to cannot be known.
func (d *directory) byName(name events.Table) (relay.Watched, bool, error) {
	need, named := d.needs[name]
	if !named && d.ours {
		return relay.Watched{}, false, fmt.Errorf("relation %s was published and belongs to no table of the rules any more", name)
	}
	return relay.Watched{Table: name, Columns: need.Columns, Typed: need.Typed}, named, nil
}

func (d *directory) lookUp(oid uint32) (catalog.Storage, bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	conn, err := Connect(ctx, d.url)
	if err != nil {
		return catalog.Storage{}, false, err
	}
	defer conn.Close(ctx)
	s, ok, err := catalog.StorageOf(ctx, conn, oid, d.tables)
	if ok {
		d.known[oid] = s
	}
	return s, ok, err
}
