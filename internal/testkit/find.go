package testkit

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// postgresDirs are where PostgreSQL's server binaries are kept outside of PATH, by Debian, Red Hat and Homebrew.
var postgresDirs = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
}

// postgresBin finds the newest PostgreSQL, or the one that $PG_BIN or $POSTGRES_VERSION names.
func postgresBin() (string, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		if !executable(filepath.Join(dir, "initdb")) {
			return "", fmt.Errorf("find postgres: no initdb in PG_BIN=%s", dir)
		}
		return dir, nil
	}
	version := cmp.Or(os.Getenv("POSTGRES_VERSION"), "*")
	found := make(map[int]string)
	for _, pattern := range postgresDirs {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			major := digits(dir)
			if executable(filepath.Join(dir, "initdb")) && (version == "*" || version == strconv.Itoa(major)) {
				found[major] = dir
			}
		}
	}
	if len(found) > 0 {
		newest := 0
		for major := range found {
			newest = max(newest, major)
		}
		return found[newest], nil
	}
	if path, err := exec.LookPath("initdb"); err == nil && version == "*" {
		return filepath.Dir(path), nil
	}
	return "", fmt.Errorf("find postgres: no server of version %s: run `make deps`, or install PostgreSQL and set PG_BIN to its bin directory", version)
}

// digits reads the number in a path that has one.
func digits(path string) int {
	number := slices.DeleteFunc([]byte(path), func(c byte) bool { return c < '0' || c > '9' })
	n, _ := strconv.Atoi(string(number))
	return n
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// unprivileged is whom to run PostgreSQL as when we are root, which it refuses.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("read user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("find postgres: it refuses to run as root, and there is neither a user postgres nor nobody")
}

// redisBin finds redis-server: in $REDIS_SERVER, in PATH, or under the name redis-check-rdb, which is the same program
// and acts by the name it is called by.
var redisBin = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("REDIS_SERVER"); path != "" {
		if !executable(path) {
			return "", fmt.Errorf("find redis: REDIS_SERVER=%s is not a program", path)
		}
		return path, nil
	}
	if path, err := exec.LookPath("redis-server"); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("redis-check-rdb")
	if err != nil {
		return "", errors.New("find redis: no redis-server: run `make deps`, or install Redis 7 and set REDIS_SERVER to its redis-server")
	}
	dir, err := scratch("bin")
	if err != nil {
		return "", err
	}
	link := filepath.Join(dir, "redis-server")
	if err := os.Symlink(path, link); err != nil {
		return "", fmt.Errorf("link redis-server: %w", err)
	}
	return link, nil
})
