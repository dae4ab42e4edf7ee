// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/verify"
)

// rows gives s to a verifier as the rows of a table: one name for each origin,
// the position as offset. columns are those that differ, by position.
func (s store) rows(t *testing.T, columns map[int]string) verify.Report {
	t.Helper()
	v, err := verify.New(verify.Options{Keys: []ed25519.PublicKey{public(testKey("key"))}})
	require.NoError(t, err)
	position := 0
	for _, f := range s {
		for _, line := range f.lines {
			v.Row("table/"+f.name[:len(f.name)-len("/00000000000000000000.jsonl")], int64(position), line, columns[position])
			position++
		}
	}
	report, err := v.Finish()
	require.NoError(t, err)
	return report
}

// A column that does not show what its record says is tampered with. It takes
// nothing from what else is found.
func TestRows(t *testing.T) {
	s := standard(t, testKey("key")).files
	report := s.rows(t, nil)
	assert.Equal(t, 0, report.ExitCode(), describe(report))

	report = s.rows(t, map[int]string{5: "actor_id", 9: "metadata", 10: "metadata"})
	assert.Equal(t, 1, report.ExitCode())
	require.Len(t, report.Findings, 2, describe(report))
	assert.Equal(t, verify.Finding{
		Kind: verify.Tampered, Origin: report.Findings[0].Origin, Index: "4", File: "table/" + report.Findings[0].Origin, Offset: 5,
		Detail: "column actor_id does not show what the record says",
	}, report.Findings[0])
	assert.Equal(t, "indexes 8 to 9 (2): column metadata does not show what the record says", report.Findings[1].Detail)
	assert.Equal(t, verify.CompletenessComplete, report.Completeness)
	assert.Empty(t, report.Learned)

	report = s.rows(t, map[int]string{1: "size"})
	require.Len(t, report.Findings, 1, describe(report))
	assert.Equal(t, "column size does not show what the checkpoint says", report.Findings[0].Detail)

	// A changed record is one finding, whatever its columns show; and a changed
	// column does not excuse that the end is cut.
	first := report.Findings[0].Origin
	changed := s.clone()
	replace(t, changed.line(t, first, "4"), "user-", "User-")
	report = changed.rows(t, map[int]string{5: "actor_id"})
	require.Len(t, report.Findings, 1, describe(report))
	assert.Equal(t, "the stored hash is not that of the line", report.Findings[0].Detail)

	cut := s.clone()
	last := cut[3]
	last.lines = last.lines[:len(last.lines)-4]
	report = cut.rows(t, map[int]string{5: "actor_id"})
	assert.Equal(t, []verify.Kind{verify.Missing, verify.Tampered}, kinds(report), describe(report))
}
