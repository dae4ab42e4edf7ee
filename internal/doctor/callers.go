// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
)

// checkCallers finds what a list of callers does not keep out.
func (e *examination) checkCallers() {
	for _, p := range e.sealed() {
		doors := slices.DeleteFunc(receiversBefore(p), func(r *part) bool { return !r.defined || r.is("nop") })
		for _, r := range doors {
			e.checkUnbounded(r)
			if slices.ContainsFunc(doors, identifies) && !identifies(r) {
				e.found(codeCallersBypassed, r, nil,
					"it takes events for every tenant and service from whoever reaches it, beside a door that knows who may write for whom",
					"take it out of this pipeline, or let an `audit` receiver with `callers`, or with `tenant`, take its place")
			}
		}
		e.checkUnreached(p, doors)
	}
}

// identifies says that a receiver of ours knows for whom its callers write.
func identifies(r *part) bool {
	return isAudit(r) && (!r.node.at("callers", "identity").unset() || namesTenants(r))
}

// namesTenants says that the tenant of a caller comes from its authentication,
// or from a header.
func namesTenants(r *part) bool {
	return !r.node.at("tenant", "attribute").unset() || !r.node.at("tenant", "header").unset()
}

// allowed are the entries of a receiver's list of callers.
func allowed(r *part) []*node {
	n := r.node.at("callers", "allow")
	if !isAudit(r) || n == nil {
		return nil
	}
	return n.items
}

func (e *examination) checkUnbounded(r *part) {
	if namesTenants(r) {
		return
	}
	for i, entry := range allowed(r) {
		if entry.unknown() || entry.at("tenants").holds() || entry.at("services").holds() {
			continue
		}
		e.add(codeCallerUnbounded, entry, r.path("callers", fmt.Sprintf("allow[%d]", i)),
			"this caller may write for every tenant and every service: whoever has its credentials can, too",
			"name its `tenants`, its `services`, or both")
	}
}

// holds says that a list has something in it, or may.
func (n *node) holds() bool {
	return n != nil && (n.unknown() || n.kind == scalar || len(n.items) > 0)
}

// checkUnreached finds rules of the processor about tenants and services that
// nobody may write for, which is what a typing error looks like. It is silent
// where anybody may, or where only the collector knows.
func (e *examination) checkUnreached(p *pipeline, doors []*part) {
	seal := p.processors[p.seal()]
	rules := seal.node.at("proof")
	if p.guessed || rules == nil || len(doors) == 0 {
		return
	}
	for _, about := range []struct{ owner, owners string }{{"tenant", "tenants"}, {"service", "services"}} {
		known, ok := writable(doors, about.owners)
		if !ok {
			continue
		}
		check := func(named *node, path ...string) {
			for _, n := range named.each() {
				if n.kind == scalar && !n.unknown() && n.text != "*" && !slices.Contains(known, n.text) {
					e.add(codeRuleUnreached, n, seal.path(append([]string{"proof"}, path...)...),
						"no caller may write for the "+about.owner+" "+shorten(n.text)+": the rule never applies",
						"correct the name here, or in `callers::allow` of the receiver")
				}
			}
		}
		for i, rule := range rules.at("require_signature").each() {
			check(rule.at(about.owner), fmt.Sprintf("require_signature[%d]", i), about.owner)
		}
		for i, key := range rules.at("keys").each() {
			check(key.at(about.owners), fmt.Sprintf("keys[%d]", i), about.owners)
		}
	}
}

// writable lists all tenants, or services, that callers may write for. It is
// not ok if that may be any.
func writable(doors []*part, owners string) (names []string, ok bool) {
	for _, r := range doors {
		entries := allowed(r)
		if len(entries) == 0 || owners == "tenants" && namesTenants(r) {
			return nil, false
		}
		for _, entry := range entries {
			list := entry.at(owners)
			if !list.holds() {
				return nil, false
			}
			for _, n := range list.each() {
				if n.unknown() {
					return nil, false
				}
				names = append(names, n.text)
			}
		}
	}
	return names, true
}

// each is what a list holds; of one value it is that value.
func (n *node) each() []*node {
	switch {
	case n == nil || n.kind == null:
		return nil
	case n.kind == list:
		return n.items
	}
	return []*node{n}
}
