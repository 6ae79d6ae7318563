package mapping_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/mapping"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden messages of testdata/*.bad.yaml")

// env is what the test files find in the environment.
func env(name string) (string, bool) {
	v, ok := map[string]string{"REDIS_URL": "redis://:hunter2@127.0.0.1:6379/0", "EMPTY": ""}[name]
	return v, ok
}

func TestBadFilesReportEveryProblem(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bad.yaml"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			require.NoError(t, err)
			_, err = mapping.Compile(filepath.Base(file), src, env)
			var problems mapping.Problems
			require.ErrorAs(t, err, &problems)
			got := problems.Pretty()
			require.NotContains(t, got, "hunter2", "a password is never printed")
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *rewrite {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}
