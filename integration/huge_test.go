package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/integration/watch"
	"github.com/walfence/walfence/internal/testkit"
)

// plain starts a program that is built without the race detector, which takes several times the memory.
func (r *rig) plain(name string) *running {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/"+name)
	cmd.Dir = testkit.Top()
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	p := testkit.Run(r.t, path, r.env, "run")
	return &running{Program: p, at: watch.Program{Name: name, Address: p.Await(r.t, patience, "http listens").Text("address")}}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory that a program has had, in bytes.
func (p *running) peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	require.NoError(t, err)
	found := highWater.FindSubmatch(status)
	require.NotNil(t, found)
	kB, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kB << 10
}

func TestAHugeTransactionTakesConstantMemory(t *testing.T) {
	t.Parallel()
	const rows, limit = 300_000, 100 << 20
	r := newRig(t, "CREATE TABLE plain (tenant_id int, id int, n int, body text, PRIMARY KEY (tenant_id, id))", plainRules)
	r.cdc, r.invalidator = r.plain("cdc"), r.plain("invalidator")
	r.ready()
	r.plant("1:plain:1", fmt.Sprintf("1:plain:%d", rows), "1:plain:0")
	r.exec(fmt.Sprintf("INSERT INTO plain SELECT 1, n, n, repeat('x', 200) FROM generate_series(1, %d) n", rows))
	testkit.Eventually(t, 4*patience, func() error {
		if left := r.left("1:plain:1", fmt.Sprintf("1:plain:%d", rows)); len(left) > 0 {
			return fmt.Errorf("still cached: %v", left)
		}
		return nil
	})
	r.settle()
	require.NotEmpty(t, r.left("1:plain:0"))
	require.EqualValues(t, rows, r.invalidator.metric(t, "walfence_keys_invalidated_total", "rule=plain"))
	require.Less(t, r.cdc.peak(t), limit)
	require.Less(t, r.invalidator.peak(t), limit)
	t.Logf("cdc %d MB, invalidator %d MB", r.cdc.peak(t)>>20, r.invalidator.peak(t)>>20)
	r.works()
}
