// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelaudit/otelaudit/audit/verify"
)

func givenKey(key ed25519.PrivateKey) verify.Options {
	return verify.Options{Keys: []ed25519.PublicKey{public(key)}}
}

func TestSoundStore(t *testing.T) {
	s := standard(t, testKey("a"))
	report := check(t, s.files, givenKey(s.key))
	assert.Empty(t, report.Findings, describe(report))
	assert.Equal(t, 0, report.ExitCode())
	assert.Equal(t, verify.TrustGiven, report.Trust)
	assert.EqualValues(t, 70, report.Records)
	assert.EqualValues(t, 11, report.Checkpoints)
	if assert.Len(t, report.Logs, 1) && assert.Len(t, report.Logs[0].Lives, 2) {
		assert.Equal(t, "50", report.Logs[0].Lives[0].Verified)
		assert.True(t, report.Logs[0].Lives[1].Closed)
		assert.NotEmpty(t, report.Logs[0].ClosedAt)
	}
}

func TestTrust(t *testing.T) {
	s := standard(t, testKey("a"))
	first := check(t, s.files, verify.Options{})
	assert.Equal(t, 0, first.ExitCode(), describe(first))
	assert.Equal(t, verify.TrustFirstUse, first.Trust)
	assert.Equal(t, []verify.Pin{{Key: public(s.key)}}, first.Learned.Pins[instance])

	again := check(t, s.files, verify.Options{Pins: first.Learned.Pins, Floors: first.Learned.Floors})
	assert.Equal(t, 0, again.ExitCode(), describe(again))
	assert.Equal(t, verify.TrustPinned, again.Trust)

	other := check(t, s.files, verify.Options{Pins: map[string][]verify.Pin{instance: {{Key: public(testKey("b"))}}}})
	assert.Equal(t, []verify.Kind{verify.BadSignature}, kinds(other))
	assert.Equal(t, 1, other.ExitCode())

	ended := check(t, s.files, verify.Options{Pins: map[string][]verify.Pin{instance: {{Key: public(s.key), Ended: true}}}})
	assert.Equal(t, []verify.Kind{verify.OpenTail, verify.Unverifiable}, kinds(ended), describe(ended))
	assert.Equal(t, 4, ended.ExitCode())
}

func TestEmptyStoreIsOpen(t *testing.T) {
	report := check(t, nil, verify.Options{})
	assert.Equal(t, 4, report.ExitCode())
	assert.Empty(t, report.Findings)
}
