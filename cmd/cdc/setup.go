package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/walfence/walfence/internal/catalog"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/source"
)

type setupCommand struct {
	database
	DryRun bool `help:"Print the SQL and run nothing."`
}

// Run brings publication and slot to what the rules need, the publication first.
func (c *setupCommand) Run(ctx context.Context, env *config.Env) error {
	program, err := c.compile(env)
	if err != nil {
		return err
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	server, err := catalog.ReadServer(ctx, conn)
	if err != nil {
		return err
	}
	if err := server.Problems(c.Slot).Err(); err != nil {
		return config.Mistake(err)
	}
	tables, problems, err := catalog.Check(ctx, conn, program.Tables())
	if err != nil {
		return err
	}
	if problems.Err() != nil {
		return config.Mistake(source.Problems(problems, program.Tables()))
	}
	for i := range problems {
		fmt.Fprintf(env.Stderr, "warning: %s\n", problems[i].Error())
		for _, statement := range problems[i].Statements {
			fmt.Fprintf(env.Stderr, "  %s;\n", statement)
		}
	}
	plan, err := catalog.PlanPublication(ctx, conn, c.Publication, tables, c.ColumnLists == "on")
	if err != nil {
		return err
	}
	if err := plan.Problems.Err(); err != nil {
		return config.Mistake(err)
	}
	return c.apply(ctx, env.Stdout, conn, plan, server)
}

func (c *setupCommand) apply(ctx context.Context, out io.Writer, conn *pgx.Conn, plan *catalog.Plan, server *catalog.Server) error {
	slot, err := catalog.ReadSlot(ctx, conn, c.Slot)
	if err != nil {
		return err
	}
	statements := plan.Statements
	create := catalog.CreateSlotSQL(c.Slot, server.Version)
	if slot == nil {
		statements = append(statements[:len(statements):len(statements)], create)
	} else if err := slot.Problems(server.Database).Err(); err != nil {
		return config.Mistake(err)
	}
	for _, l := range plan.Lists {
		if l.Reason != "" {
			fmt.Fprintf(out, "-- no column list for %s: %s\n", l.Table, l.Reason)
		}
	}
	for _, statement := range statements {
		fmt.Fprintf(out, "%s;\n", statement)
	}
	switch {
	case len(statements) == 0:
		fmt.Fprintf(out, "-- publication %s and slot %s are as they must be\n", c.Publication, c.Slot)
		return nil
	case c.DryRun:
		return nil
	case c.CDC.Setup == "off":
		return config.Mistake(source.MissingSQL(statements))
	}
	if err := catalog.Apply(ctx, conn, plan); err != nil {
		return err
	}
	if slot == nil {
		if _, err := conn.Exec(ctx, create); err != nil {
			return fmt.Errorf("create slot: %w", err)
		}
	}
	fmt.Fprintln(out, "-- done")
	return nil
}

type teardownCommand struct {
	database
	Force bool `help:"Also drop a publication or slot that walfence did not make."`
}

// Run drops the slot, so that it keeps no more WAL, and then the publication.
func (c *teardownCommand) Run(ctx context.Context, env *config.Env) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := catalog.DropSlot(ctx, conn, c.Slot, c.Force); err != nil {
		return fmt.Errorf("%w; stop cdc first if it runs", err)
	}
	fmt.Fprintf(env.Stdout, "slot %s is gone\n", c.Slot)
	if err := catalog.DropPublication(ctx, conn, c.Publication, c.Force); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "publication %s is gone\n", c.Publication)
	return nil
}
