// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../tools/go.mod mdatagen metadata.yaml

// Package auditreceiver accepts audit events over HTTP and gRPC and answers
// only what is true.
//
// Events of the original logger come to /v1/events, OTLP log records to
// /v1/logs and over gRPC, and to /v1/audit, which answers as OTEP 0267 says:
// 200 only once every required sink has the records. A request is read and decoded whole, under a budget of bytes, and handed on
// in one ConsumeLogs call whose context carries a receipt. The audit processor
// behind the receiver fills it; only then is the answer 200, with the
// coordinates of every event.
package auditreceiver
