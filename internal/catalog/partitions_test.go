package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

func TestPartitionsLeadToTheWatchedTable(t *testing.T) {
	db := testkit.NewDatabase(t)
	db.Exec(t, `CREATE SCHEMA "Old"; CREATE TABLE plain (id int PRIMARY KEY); CREATE TABLE unwatched (id int PRIMARY KEY);
		CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE p_low PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
		CREATE TABLE "Old"."P lowest" PARTITION OF p_low FOR VALUES FROM (0) TO (5);
		CREATE TABLE q (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (5)`)
	conn, ctx := db.Conn(t), t.Context()
	oid := func(table string) uint32 { return one[uint32](t, conn, `SELECT '`+table+`'::regclass::oid`) }
	tables := checked(t, conn, need("plain", "id", ""), need("p", "id", ""), need("q1", "id", ""))
	lowest := catalog.Storage{Table: public("p"), Relation: events.Table{Schema: "Old", Name: "P lowest"}}
	want := map[uint32]catalog.Storage{
		oid("plain"):            {Table: public("plain"), Relation: public("plain")},
		oid("p"):                {Table: public("p"), Relation: public("p")},
		oid("p_low"):            {Table: public("p"), Relation: public("p_low")},
		oid(`"Old"."P lowest"`): lowest,
		oid("q1"):               {Table: public("q1"), Relation: public("q1")},
	}
	got, err := catalog.Storages(ctx, conn, tables)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for oid, storage := range want {
		s, ok, err := catalog.StorageOf(ctx, conn, oid, tables)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, storage, s)
	}

	exec(t, conn, `CREATE TABLE p_new PARTITION OF p FOR VALUES FROM (10) TO (20)`)
	s, ok, err := catalog.StorageOf(ctx, conn, oid("p_new"), tables)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, catalog.Storage{Table: public("p"), Relation: public("p_new")}, s)
	for _, other := range []uint32{oid("unwatched"), oid("q"), 1} {
		_, ok, err := catalog.StorageOf(ctx, conn, other, tables)
		require.NoError(t, err)
		require.False(t, ok)
	}
}
