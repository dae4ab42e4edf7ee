// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../tools/go.mod mdatagen metadata.yaml

// Package auditexporter writes sealed audit records and their checkpoints to a
// sink.
//
// ConsumeLogs encodes each record again and compares its digest with what was
// sealed, before anything of the batch is written. It returns nil once the
// whole batch is durable in the sink, which stores each coordinate once.
package auditexporter
