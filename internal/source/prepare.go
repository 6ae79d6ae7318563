package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/mapping"
)

// prepared is the database as a session needs it.
type prepared struct {
	tables      []*catalog.Table
	refused     bool // some tables of the rules cannot be published, or are not there
	plan        *catalog.Plan
	fingerprint string        // of the publication before this program changed it
	slot        *catalog.Slot // nil if there is none
}

// prepare checks the server, the tables and the publication, and mends what it may: first the publication, then, later,
// the slot.
func (s *Source) prepare(ctx context.Context, conn *pgx.Conn) (*prepared, error) {
	server, err := catalog.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := server.Problems(s.cfg.Slot).Err(); err != nil {
		return nil, permanent(err)
	}
	p := &prepared{}
	if p.tables, p.refused, err = s.checkTables(ctx, conn); err != nil {
		return nil, err
	}
	if p.slot, err = catalog.ReadSlot(ctx, conn, s.cfg.Slot); err != nil {
		return nil, err
	}
	if p.slot != nil {
		if err := p.slot.Problems(server.Database).Err(); err != nil {
			return nil, permanent(err)
		}
		if p.slot.Active { // whoever waits for another to end changes nothing, and announces nothing
			return nil, &catalog.SlotActiveError{Slot: s.cfg.Slot, PID: p.slot.ActivePID}
		}
	}
	if p.fingerprint, err = catalog.Fingerprint(ctx, conn, s.cfg.Publication); err != nil {
		return nil, err
	}
	if err := s.preparePublication(ctx, conn, p); err != nil {
		return nil, err
	}
	p.slot, err = catalog.ReadSlot(ctx, conn, s.cfg.Slot) // anew: setting up the publication may have waited for locks
	return p, err
}

// checkTables refuses tables that cannot be published, at the start. Later it goes on with the others: a migration must not
// end what they rely on.
func (s *Source) checkTables(ctx context.Context, conn *pgx.Conn) (tables []*catalog.Table, refused bool, err error) {
	needs := s.cfg.Program.Tables()
	tables, problems, err := catalog.Check(ctx, conn, needs)
	if err != nil {
		return nil, false, err
	}
	if problems.Err() != nil && !s.started {
		return nil, false, permanent(Problems(problems, needs))
	}
	for i := range problems {
		if text := problems[i].Error(); s.told[text] {
			continue
		} else {
			s.told[text] = true
		}
		s.cfg.Log.Warn("rules and database do not fit", zap.Stringer("relation", problems[i].Table),
			zap.String("reason", problems[i].Error()), zap.Strings("statements", problems[i].Statements))
	}
	s.metrics.problems.Set(float64(len(problems)))
	return tables, problems.Err() != nil, nil
}

// Problems turns what forbids to publish tables into one error: at its place in the rules file where there is one.
func Problems(problems catalog.Problems, needs []mapping.Table) error {
	problems = slices.DeleteFunc(slices.Clone(problems), func(p catalog.Problem) bool { return p.Severity != catalog.Error })
	inRules := problems.InRules(needs)
	if len(inRules) > 0 {
		return errors.New(inRules.Pretty())
	}
	return problems
}

// preparePublication makes the publication what rules need, or refuses.
func (s *Source) preparePublication(ctx context.Context, conn *pgx.Conn, p *prepared) error {
	plan, err := catalog.PlanPublication(ctx, conn, s.cfg.Publication, p.tables, s.cfg.ColumnLists)
	if err != nil {
		return err
	}
	p.plan = plan
	for i := range plan.Problems {
		if plan.Problems[i].Severity == catalog.Warning {
			s.cfg.Log.Warn("publication is not as it should be", zap.String("publication", plan.Publication),
				zap.String("reason", plan.Problems[i].Error()))
		}
	}
	if plan.Problems.Err() != nil {
		return permanent(plan.Problems)
	}
	if len(plan.Statements) == 0 {
		return nil
	}
	if p.refused { // the plan would take the refused tables out, and their changes would be missed without a word
		plan.Added = nil
		return nil
	}
	if !s.cfg.Setup {
		return permanent(MissingSQL(plan.Statements))
	}
	for _, l := range plan.Lists {
		if l.Reason != "" {
			s.cfg.Log.Info("no column list for table", zap.Stringer("relation", l.Table), zap.String("reason", l.Reason))
		}
	}
	if err := catalog.Apply(ctx, conn, plan); err != nil {
		return err
	}
	s.cfg.Log.Info("publication set up", zap.String("publication", plan.Publication), zap.Strings("statements", plan.Statements))
	return nil
}

// MissingSQL is the error of a program that may not change the database and would have to.
func MissingSQL(statements []string) error {
	return fmt.Errorf("the database lacks what walfence needs, and CDC_SETUP=off forbids to change it; run:\n  %s;",
		strings.Join(statements, ";\n  "))
}
