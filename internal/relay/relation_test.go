package relay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/pgoutput"
	"github.com/walfence/walfence/pkg/events"
)

func TestEventsCarryTypesOnlyWhereRulesCompareValues(t *testing.T) {
	relation := &pgoutput.Relation{Columns: []pgoutput.RelationColumn{
		{Name: "id", Key: true, Type: 20}, {Name: "photo", Type: 17}, {Name: "price", Type: 1700},
	}}
	watched := Watched{Table: events.Table{Schema: "public", Name: "products"}, Columns: []string{"id", "price"}}
	require.Empty(t, newPlan("shop", relation, watched).head.Types)
	watched.Typed = true
	require.Equal(t, []uint32{20, 1700}, newPlan("shop", relation, watched).head.Types)
}
