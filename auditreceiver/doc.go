// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../tools/go.mod mdatagen metadata.yaml

// Package auditreceiver accepts audit events over HTTP and answers only what
// is true.
//
// A request is read and decoded whole, under a budget of bytes, and handed on
// in one ConsumeLogs call whose context carries a receipt. The audit processor
// behind the receiver fills it; only then is the answer 200, with the
// coordinates of every event.
package auditreceiver
