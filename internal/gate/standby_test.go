package gate

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStandbyNamesAreReadAsPostgreSQLReadsThem(t *testing.T) {
	for setting, want := range map[string]bool{
		"": false, "s1": false, "s1, s2": false, "FIRST 1 (s1, s2)": false, "ANY 2 (s1,s2)": false, "2 (s1, s2)": false,
		"any 1 (first, any)": false, `"wal fence"`: false, `"a,walfence"`: false,
		"*": true, "walfence": true, "WALFENCE": true, "s1,walfence": true, "FIRST 2 (s1, *)": true, `ANY 1 ("walfence")`: true, "1 (*)": true,
		`"*"`: true, // PostgreSQL takes it for every name too
	} {
		require.Equal(t, want, namesStandby(setting, "walfence"), setting)
	}
	require.True(t, namesStandby(`s1, "my ""reader"""`, `my "reader"`))
}
