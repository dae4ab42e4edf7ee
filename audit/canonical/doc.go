// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package canonical writes the one sequence of bytes that stands for an audit
// record, and reads it back. What is hashed, signed, stored and shown is this
// sequence; two records are the same exactly if their canonical bytes are.
//
// # The form
//
// Canonical bytes are a JSON object in the form of RFC 8785 (JCS): UTF-8, no
// white space, members in the order of their names' UTF-16 code units, strings
// and numbers in the one spelling of ECMAScript. The object has these members,
// in this order:
//
//	collector  attributes of the record that start with audit.integrity.collector.
//	proof      the record's other attributes that start with audit.integrity.
//	record     everything else that the record says
//	resource   {"attributes":{…},"schema_url":"…"}
//	scope      {"attributes":{…},"name":"…","schema_url":"…","version":"…"}
//	severity   {"flags":"<decimal>","number":"<decimal>","text":"…"}
//
// Only record is always present, if need be as {}. Every other member, on both
// levels, is absent where it would be empty: an empty string, a zero, an object
// without members. In collector and proof the keys are the attributes' full
// names. Attributes of the record that start with audit.integrity.chain. are in
// no member: the chain's link holds them. Dropped counts and entity references
// are not part of the form.
//
// The member record is byte for byte what the contrib processor "signing"
// signs and what OTEP 0267 calls the canonical form. Its members, in this
// order, are absent where it says so:
//
//	attributes          {key: value, …}                     no attribute is left
//	body                value                               empty value (an empty string is present)
//	event_name          string                              ""
//	observed_timestamp  nanoseconds as a decimal string     0
//	span_id             16 lowercase hex digits as a string all zero
//	timestamp           nanoseconds as a decimal string     0
//	trace_id            32 lowercase hex digits as a string all zero
//
// A value is written by its type:
//
//	string  {"stringValue":"…"}
//	int     {"intValue":"<decimal>"}    always a string; no plus sign, no leading zero
//	double  {"doubleValue":<number>}    RFC 8785 section 3.2.2.3; -0 is 0
//	bool    {"boolValue":true}
//	bytes   {"bytesValue":"…"}          base64, standard alphabet, padded
//	slice   [value, …]
//	map     {key: value, …}
//	empty   null
//
// A map's value is never a bare string, number or boolean, so no map can be
// mistaken for a scalar, whatever its keys are.
//
// Keys are in UTF-16 order everywhere. Where a key occurs more than once, its
// last value counts and the others do not exist.
//
// In strings, ", \, backspace, tab, line feed, form feed and carriage return
// have their two-character escapes, other characters below U+0020 are written
// \u00xx in lowercase, and everything else stands for itself.
//
// # What has no canonical form
//
// [ErrUTF8]: a key or string that is not UTF-8. [ErrNumber]: a double that is
// NaN or infinite. [ErrDepth]: maps and slices nested more than [MaxDepth]
// deep; the map or slice that is itself the value of an attribute, or the body,
// is at depth 1. [ErrTime]: a time of 2^63 ns or more. A value that a later
// duplicate of its key replaces, or that is an attribute of the chain, is not
// looked at.
//
// # Hashes
//
//	integrity hash = SHA-256(value of the member record)
//	digest         = SHA-256(canonical bytes)
//
// # Example
//
// A record with the event name user.login, the attributes
// audit.actor.id = "alice", audit.integrity.collector.tenant = "acme" and
// n = 3, and the resource attribute service.name = "shop" has the canonical
// bytes (one line; broken here at members)
//
//	{"collector":{"audit.integrity.collector.tenant":{"stringValue":"acme"}},
//	"record":{"attributes":{"audit.actor.id":{"stringValue":"alice"},"n":{"intValue":"3"}},"event_name":"user.login"},
//	"resource":{"attributes":{"service.name":{"stringValue":"shop"}}}}
//
// Its integrity hash is
// 71049913739a5b9877f36ffda8089ffa0eb0beb352e5f7eab5d0ab0a31843233, its digest
// 44aa868869aa6fa403e93cf9783a07608ae9f32c2ba9157123eeb18b8149d613.
//
// More examples, with the records that they stand for and their hashes, are in
// audit/testdata/vectors/canonical.
package canonical
