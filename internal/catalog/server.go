package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// oldestVersion is the first that walfence works with, as server_version_num has it.
const oldestVersion = 140000

// Server is what a connection leads to, and what its role may do there.
type Server struct {
	Version     int    // server_version_num, as 150018
	VersionText string // as "15.18"
	Database    string
	Role        string
	Superuser   bool
	Replication bool // may open replication connections
	MayCreate   bool // may create a publication in this database
	InRecovery  bool // is a standby
	WALLevel    string
	MaxSlots    int
	MaxSenders  int
	Slots       []string // of all databases
	Pooler      bool     // something between answers in the server's place
}

const serverQuery = `
SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_database(), r.rolname, r.rolsuper,
       r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER')),
       has_database_privilege(current_database(), 'CREATE'), pg_is_in_recovery(), current_setting('wal_level'),
       current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int,
       ARRAY(SELECT slot_name::text FROM pg_replication_slots ORDER BY 1), pg_backend_pid()
FROM pg_roles r WHERE r.rolname = current_user`

// ReadServer asks a connection about its server.
func ReadServer(ctx context.Context, conn *pgx.Conn) (*Server, error) {
	var s Server
	var pid uint32
	err := conn.QueryRow(ctx, serverQuery).Scan(&s.Version, &s.VersionText, &s.Database, &s.Role, &s.Superuser,
		&s.Replication, &s.MayCreate, &s.InRecovery, &s.WALLevel, &s.MaxSlots, &s.MaxSenders, &s.Slots, &pid)
	if err != nil {
		return nil, fmt.Errorf("read server settings: %w", err)
	}
	// A pooler makes up the process id of the session that it hands out.
	s.Pooler = conn.PgConn().PID() != pid
	return &s, nil
}

// Problems tells what keeps cdc from working with this server and a slot of that name.
func (s *Server) Problems(slot string) Problems {
	var ps Problems
	report := func(cause, hint string, statements ...string) {
		ps = append(ps, Problem{Severity: Error, Cause: cause, Hint: hint, Statements: statements})
	}
	if s.Version < oldestVersion {
		report("PostgreSQL "+s.VersionText+" is too old", "walfence needs PostgreSQL 14 or later")
	}
	if s.Pooler {
		report("a connection pooler stands between walfence and PostgreSQL",
			"give DATABASE_URL the server's own address: replication and the gate must reach one and the same server")
	}
	if s.InRecovery {
		report("the server is a standby", "give DATABASE_URL the primary, or all hosts and target_session_attrs=read-write")
	}
	if s.WALLevel != "logical" {
		report(fmt.Sprintf("wal_level is %s, not logical", s.WALLevel),
			"set it and restart PostgreSQL (Amazon RDS: rds.logical_replication = 1 in the parameter group, then reboot)",
			"ALTER SYSTEM SET wal_level = 'logical'")
	}
	if !s.Replication {
		report(fmt.Sprintf("role %s may not replicate", quote(s.Role)),
			fmt.Sprintf("as a superuser give it the right (Amazon RDS: GRANT rds_replication TO %s)", quote(s.Role)),
			fmt.Sprintf("ALTER ROLE %s REPLICATION", quote(s.Role)))
	}
	if len(s.Slots) >= s.MaxSlots && !slices.Contains(s.Slots, slot) {
		report(fmt.Sprintf("all %d replication slots are taken", s.MaxSlots), "drop one that nobody reads, or add some and restart PostgreSQL",
			fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d", s.MaxSlots+5))
	}
	if s.MaxSenders == 0 {
		report("max_wal_senders is 0", "set it and restart PostgreSQL", "ALTER SYSTEM SET max_wal_senders = 10")
	}
	return ps
}
