// Package catalog knows what the live database says about the tables that rules need, and the SQL that readies it.
//
// Its promise: it changes nothing but walfence's own publication and slot, never publishes a table whose UPDATE or DELETE
// would then fail, and for everything else that is missing it says which statements mend it, in an order that is safe
// while the application writes.
//
// Its functions run short queries on an ordinary connection, which must not be in use elsewhere meanwhile. What they
// report is as of then: a migration may run at any time.
package catalog
