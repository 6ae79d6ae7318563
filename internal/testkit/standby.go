package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// OpenStandby copies the server into dir and starts the copy as a streaming standby, with settings such as
// "recovery_min_apply_delay=20ms". To the primary it is known by its setting cluster_name.
func (c *Cluster) OpenStandby(dir string, settings ...string) (*Cluster, error) {
	s := &Cluster{Dir: dir, Bin: c.Bin, settings: settings, user: c.user}
	if s.user != nil {
		if err := os.Chown(dir, int(s.user.Uid), int(s.user.Gid)); err != nil {
			return nil, fmt.Errorf("give directory to postgres: %w", err)
		}
	}
	cmd := exec.Command(filepath.Join(c.Bin, "pg_basebackup"), "--pgdata="+s.data(), "--host=127.0.0.1",
		"--port="+strconv.Itoa(c.Port), "--username=postgres", "--checkpoint=fast", "--no-sync", "--write-recovery-conf")
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy server: %w: %s", err, out)
	}
	return s, s.startOnFreePort()
}
