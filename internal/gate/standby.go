package gate

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Synchronous is the error of a reader whose own walsender PostgreSQL counts, or would count, among its synchronous standbys. Commits
// wait for our confirm and we for the commits: the application would hang.
type Synchronous struct{ Name string }

func (e *Synchronous) Error() string {
	return fmt.Sprintf("synchronous_standby_names makes this reader (application_name %q) a synchronous standby, so commits would wait "+
		"for it for ever: name the real standbys there instead of \"*\", and not %q", e.Name, e.Name)
}

// CheckStandbyNames returns a [Synchronous] if a walsender with the application_name of conn would be a synchronous standby. It is
// asked before one connects: whenever one comes, commits wait for it until it is gone.
func CheckStandbyNames(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	res := conn.ExecParams(ctx, "SELECT current_setting('synchronous_standby_names'), current_setting('application_name')", nil, nil, nil, nil).Read()
	if res.Err != nil {
		return fmt.Errorf("read synchronous_standby_names: %w", res.Err)
	}
	names, own := string(res.Rows[0][0]), string(res.Rows[0][1])
	if namesStandby(names, own) {
		return &Synchronous{Name: own}
	}
	return nil
}

var (
	standbyMethod = regexp.MustCompile(`(?i)^\s*((first|any)\s+)?\d+\s*\(`)
	standbyName   = regexp.MustCompile(`"(?:[^"]|"")*"|[^\s,()"]+`)
)

// namesStandby tells whether synchronous_standby_names has a name, or every name. PostgreSQL ignores case there.
func namesStandby(setting, name string) bool {
	for _, one := range standbyName.FindAllString(standbyMethod.ReplaceAllString(setting, ""), -1) {
		if one == "*" {
			return true
		}
		if strings.HasPrefix(one, `"`) {
			one = strings.ReplaceAll(one[1:len(one)-1], `""`, `"`)
		}
		if one == "*" || strings.EqualFold(one, name) {
			return true
		}
	}
	return false
}
