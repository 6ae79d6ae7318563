package source_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/source"
	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/events"
)

// newPrivateRig is a rig on a PostgreSQL server that its test may kill.
func newPrivateRig(t *testing.T, schema ...string) (*rig, *testkit.Cluster) {
	cluster := testkit.PrivatePostgres(t)
	r := &rig{t: t, db: cluster.NewDatabase(t), nats: testkit.NATS(t), cfg: func(*source.Config) {}}
	r.slot = "s_" + r.db.Name
	r.js = r.nats.JetStream(t)
	r.db.Exec(t, schema...)
	return r, cluster
}

// epochs returns why each epoch of the stream began.
func epochs(all []message) (reasons []string) {
	for _, m := range all {
		if m.Kind == events.KindEpoch {
			reasons = append(reasons, m.Reason)
		}
	}
	return reasons
}

// insert adds a row, trying again while the server is away.
func (r *rig) insert(id int) {
	testkit.Eventually(r.t, 20*time.Second, func() error {
		_, err := r.db.Conn(r.t).Exec(r.t.Context(), "INSERT INTO users VALUES ($1, 1, 'n') ON CONFLICT DO NOTHING", id)
		return err
	})
}

func TestACleanRestartOfPostgreSQLIsNoEpochAndACrashIsOne(t *testing.T) {
	r, cluster := newPrivateRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	r.insert(1)
	r.events(until("1"))
	require.NoError(t, cluster.Restart(testkit.Fast))
	r.insert(2)
	require.Equal(t, []string{"first_start"}, epochs(r.events(until("2"))))

	require.NoError(t, cluster.Restart(testkit.Immediate))
	r.insert(3)
	require.Equal(t, []string{"first_start", "crash"}, epochs(r.events(until("3"))))
	require.NoError(t, r.halt())
	r.start(userRules)
	r.awaitReady()
	r.insert(4)
	require.Equal(t, []string{"first_start", "crash"}, epochs(r.events(until("4"))))
}

func TestACrashIsNoEpochWhereItIsTrustedAndNothingIsPublishedTwice(t *testing.T) {
	r, cluster := newPrivateRig(t, userTable)
	r.cfg = func(c *source.Config) { c.TrustCrash = true }
	r.start(userRules)
	r.awaitReady()
	r.insert(1)
	r.insert(2)
	r.events(until("2"))
	require.NoError(t, cluster.Kill()) // the slot's position goes back
	require.NoError(t, cluster.Start())
	r.insert(3)
	all := r.events(until("3"))
	require.Equal(t, []string{"epoch .", "users insert (1 1 n) -", "users insert (2 1 n) -", "users insert (3 1 n) -"}, rows(all))
}

func TestADatabaseThatWentBackInTimeBeginsAnEpochAlsoWhenItHasGrownSince(t *testing.T) {
	for name, grow := range map[string]int{"restored": 0, "restored and grown past the old position": 2000} {
		t.Run(name, func(t *testing.T) {
			r, cluster := newPrivateRig(t, userTable)
			r.cfg = func(c *source.Config) { c.TrustCrash = true } // a restored copy is a crash too; here it must be seen without
			r.start(userRules)
			r.awaitReady()
			r.insert(1)
			r.events(until("1"))
			require.NoError(t, r.halt())
			require.NoError(t, cluster.Stop(testkit.Fast))
			data := filepath.Join(cluster.Dir, "data")
			copyTree(t, data, data+".old")
			require.NoError(t, cluster.Start())
			r.start(userRules)
			r.awaitReady()
			for id := range 5 {
				r.insert(100 + id)
			}
			r.events(until("104"))
			require.NoError(t, r.halt())
			require.NoError(t, cluster.Stop(testkit.Fast))

			require.NoError(t, os.RemoveAll(data))
			require.NoError(t, os.Rename(data+".old", data))
			require.NoError(t, cluster.Start())
			for id := range grow {
				r.db.Exec(t, fmt.Sprintf("INSERT INTO users SELECT %d + g, 1, repeat('x', 200) FROM generate_series(1, 50) g", 10000+id*50))
				if id%100 == 0 && id > 0 {
					break
				}
			}
			r.start(userRules)
			r.awaitReady()
			r.insert(9)
			require.Equal(t, []string{"first_start", "rewound"}, epochs(r.events(until("9"))))
		})
	}
}

func copyTree(t *testing.T, from, to string) {
	out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestAStreamThatIsDeletedWhileRunningIsMadeAnewAndBeginsAnEpoch(t *testing.T) {
	r := newRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	r.insert(1)
	r.events(until("1"))
	require.NoError(t, r.js.DeleteStream(t.Context(), "CHANGES"))
	r.insert(2)
	testkit.Eventually(t, 30*time.Second, func() error {
		_, err := r.js.Stream(t.Context(), "CHANGES")
		return err
	})
	r.insert(3)
	require.Equal(t, []string{"stream_recreated"}, epochs(r.events(until("3"))))
}

func TestAStreamThatLostItsTailBeginsAnEpoch(t *testing.T) {
	r := newRig(t, userTable)
	r.start(userRules)
	r.awaitReady()
	r.insert(1)
	r.events(until("1"))
	backup := r.nats.Dir
	r.nats.Stop()
	copyTree(t, backup, backup+".old")
	require.NoError(t, r.nats.Start())
	r.insert(2)
	r.events(until("2"))
	r.nats.Stop()
	require.NoError(t, os.RemoveAll(backup))
	require.NoError(t, os.Rename(backup+".old", backup))
	require.NoError(t, r.nats.Start())
	r.js = r.nats.JetStream(t)
	all := r.events(func(m message) bool { return m.Kind == events.KindEpoch && m.Reason != "first_start" })
	require.Equal(t, []string{"first_start", "stream_truncated"}, epochs(all))
}
