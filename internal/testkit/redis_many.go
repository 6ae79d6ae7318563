package testkit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const slots = 16384

// RedisCluster starts a Redis Cluster of three primaries for one test. The arguments go to every node.
func RedisCluster(t testing.TB, args ...string) []*RedisServer {
	t.Helper()
	var nodes []*RedisServer
	var buses []string
	for range 3 {
		bus, err := freePort()
		if err != nil {
			t.Fatalf("%v", err)
		}
		node := Redis(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000",
		}, args...)...)
		nodes, buses = append(nodes, node), append(buses, strconv.Itoa(bus))
	}
	for i, node := range nodes {
		if err := node.join(i, nodes[0], buses[0]); err != nil {
			t.Fatalf("%v", err)
		}
	}
	for _, node := range nodes {
		Eventually(t, redisPatience, node.clusterReady)
	}
	return nodes
}

// join takes the node's third of the slots and meets the first node.
func (r *RedisServer) join(i int, first *RedisServer, bus string) error {
	if _, err := r.do("CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1); err != nil {
		return err
	}
	if r == first {
		return nil
	}
	host, port, _ := net.SplitHostPort(first.Addr)
	_, err := r.do("CLUSTER", "MEET", host, port, bus)
	return err
}

func (r *RedisServer) clusterReady() error {
	info, err := r.do("CLUSTER", "INFO")
	if err != nil {
		return err
	}
	for _, want := range []string{"cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3"} {
		if !strings.Contains(fmt.Sprint(info), want) {
			return fmt.Errorf("cluster node %s lacks %s: %v", r.Addr, want, info)
		}
	}
	return nil
}

// Sentinel is a primary, its replica, and a sentinel that fails over between them.
type Sentinel struct {
	// Name is what the sentinel calls the pair.
	Name string
	// Servers are the first primary and its replica.
	Servers [2]*RedisServer
	// Watcher is the sentinel.
	Watcher *RedisServer
}

// RedisSentinel starts a watched pair for one test. The arguments go to both servers.
func RedisSentinel(t testing.TB, args ...string) *Sentinel {
	t.Helper()
	s := &Sentinel{Name: "walfence"}
	s.Servers[0] = Redis(t, args...)
	host, port, _ := net.SplitHostPort(s.Servers[0].Addr)
	s.Servers[1] = Redis(t, append(args[:len(args):len(args)], "--replicaof", host+" "+port)...)
	s.Watcher = &RedisServer{Dir: scratchFor(t, "sentinel"), sentinel: true}
	s.Watcher.Socket = filepath.Join(s.Watcher.Dir, "redis.sock")
	config := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 1\nsentinel down-after-milliseconds %[1]s 1000\n"+
		"sentinel failover-timeout %[1]s 5000\n", s.Name, host, port)
	if err := os.WriteFile(filepath.Join(s.Watcher.Dir, "sentinel.conf"), []byte(config), 0o600); err != nil {
		t.Fatalf("configure sentinel: %v", err)
	}
	if err := s.Watcher.startOnFreePort(); err != nil {
		t.Fatalf("%v", err)
	}
	closeWith(t, s.Watcher)
	Eventually(t, redisPatience, s.ready)
	return s
}

// ready tells whether a failover would work: the sentinel knows the replica, and the replica is in step.
func (s *Sentinel) ready() error {
	known, err := s.Watcher.do("SENTINEL", "MASTER", s.Name)
	if err != nil {
		return err
	}
	info, err := s.Servers[1].do("INFO", "replication")
	if err != nil {
		return err
	}
	text := strings.ReplaceAll(fmt.Sprint(known), " ", ":")
	if !strings.Contains(text, "num-slaves:1") || !strings.Contains(fmt.Sprint(info), "master_link_status:up") {
		return fmt.Errorf("sentinel does not know its replica yet: %v; %v", known, info)
	}
	return nil
}

// Primary asks the sentinel for the address of the present primary.
func (s *Sentinel) Primary() (string, error) {
	answer, err := s.Watcher.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
	if err != nil {
		return "", err
	}
	parts, ok := answer.([]any)
	if !ok || len(parts) != 2 {
		return "", fmt.Errorf("ask sentinel for primary: unexpected answer %v", answer)
	}
	return net.JoinHostPort(fmt.Sprint(parts[0]), fmt.Sprint(parts[1])), nil
}
