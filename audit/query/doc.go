// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package query reads stored events for people: it says which of them match a
// filter, and prints them as a table, as JSON lines or as CSV. It judges
// nothing but the hash of what it shows; whether a store is sound and complete
// is for package verify to say.
//
// It takes one event at a time and keeps none, whatever the size of the store.
package query
