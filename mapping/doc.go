// Package mapping turns rules.yaml into a program, and a change into the invalidations that the program's rules ask for.
//
// Its promise: a key or a sweep that comes out concerns the change's own tenant and no other, and nothing that the rules
// ask for is left out: what cannot be computed exactly widens, from a key to its rule within the tenant, and from there to
// the rule for all tenants. It is pure: no network, no clock, no state that shows. Whatever is wrong with a rules file is
// reported at once, with line, column, rule and a hint.
package mapping
