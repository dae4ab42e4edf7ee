// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/internal/quarantine"
)

const keptOrigin = "host-1/00112233445566aa/20261123T090700Z-0123abcd"

// kept makes a quarantine of n records.
func kept(t *testing.T, n uint64) string {
	t.Helper()
	directory := t.TempDir()
	require.NoError(t, quarantine.Make(directory))
	for index := range n {
		event := fmt.Appendf(nil, "{\"record\":{\"body\":\"secret %d \u009b31m\U000E0041\"}}", index)
		link := chain.Link{Origin: keptOrigin, Index: index, Stream: "tenant:acme", Seq: 1, Digest: sha256.Sum256(event)}
		require.NoError(t, quarantine.Put(directory, &quarantine.Entry{
			Link: link, Hash: link.Hash(), Sink: "audit/archive", Reason: "its line is too long",
			At: time.Unix(1_800_000_000, 0), Event: event,
		}))
	}
	return directory
}

func at(index int) string { return fmt.Sprintf("%s/%d", keptOrigin, index) }

func requested(t *testing.T, directory string) []string {
	t.Helper()
	found, err := quarantine.Requests(directory, 100)
	require.NoError(t, err)
	list := []string{}
	for _, c := range found {
		r, err := quarantine.ReadRequest(directory, c)
		require.NoError(t, err)
		list = append(list, fmt.Sprintf("%s %d %s", r.Action, c.Index, r.Reason))
	}
	return list
}

func TestQuarantineLs(t *testing.T) {
	directory := kept(t, 2)
	out := otelaudit("quarantine", "ls", directory)
	assert.Equal(t, output{exitSound, at(0) + `
  refused at 2027-01-15T08:00:00Z by "audit/archive", 40 bytes, stream "tenant:acme"
  "its line is too long"
` + at(1) + `
  refused at 2027-01-15T08:00:00Z by "audit/archive", 40 bytes, stream "tenant:acme"
  "its line is too long"
`, ""}, out, "no content")

	out = otelaudit("quarantine", "ls", kept(t, 0))
	assert.Equal(t, output{exitSound, "nothing is in quarantine\n", ""}, out)
	out = otelaudit("quarantine", "ls", t.TempDir())
	assert.Equal(t, exitRead, out.code, "no quarantine is no empty one")
}

func TestQuarantineShow(t *testing.T) {
	out := otelaudit("quarantine", "show", kept(t, 2), at(1))
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.NotContains(t, out.stdout, at(0)+"\n")
	assert.Contains(t, out.stdout, `{"record":{"body":"secret 1 \u009b31m\udb40\udc41"}}`, "a terminal must not obey it")
}

func TestQuarantineRequests(t *testing.T) {
	directory := kept(t, 3)
	out := otelaudit("quarantine", "replay", directory, at(0))
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.Contains(t, out.stdout, "replay of 1 record(s) is asked for")
	assert.Contains(t, out.stdout, "`chain.heartbeat`", "it says when")
	assert.Contains(t, otelaudit("quarantine", "ls", directory).stdout, "Z\n"+at(1), "no reason was given, none is shown")
	out = otelaudit("quarantine", "drop", directory, at(1), at(2), "--reason", "ticket 7")
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.Equal(t, []string{"replay 0 ", "drop 1 ticket 7", "drop 2 ticket 7"}, requested(t, directory))

	out = otelaudit("quarantine", "replay", "--all", "--reason", "limit raised", "--json", directory)
	assert.Equal(t, exitSound, out.code, out.stderr)
	assert.JSONEq(t, fmt.Sprintf(`{"action":"replay","asked":[%q,%q,%q]}`, at(0), at(1), at(2)), out.stdout)
	assert.Equal(t, []string{"replay 0 limit raised", "replay 1 limit raised", "replay 2 limit raised"}, requested(t, directory))

	out = otelaudit("quarantine", "drop", directory, at(7), at(1), "--reason", "ticket 7")
	assert.Equal(t, exitRead, out.code)
	assert.Contains(t, out.stderr, at(7)+" is not in quarantine")
	assert.Equal(t, "drop 1 ticket 7", requested(t, directory)[1], "one that fails does not keep the others")

	out = otelaudit("quarantine", "replay", directory, at(7))
	assert.Equal(t, exitRead, out.code)
	assert.Empty(t, out.stdout, "nothing is asked for")
	out = otelaudit("quarantine", "replay", "--all", kept(t, 0))
	assert.Equal(t, output{exitSound, "nothing is in quarantine\n", ""}, out)
}

func TestQuarantineJSON(t *testing.T) {
	directory := kept(t, 3)
	require.NoError(t, quarantine.Fail(directory, quarantine.Coordinate{Origin: keptOrigin, Index: 0},
		quarantine.Request{Action: quarantine.Replay, At: time.Unix(1_800_000_060, 0), Reason: "still too long"}))
	require.Equal(t, exitSound, otelaudit("quarantine", "drop", "--reason", "ticket 7", directory, at(1)).code)
	damaged, err := filepath.Glob(filepath.Join(directory, "records", "*-00000000000000000002-*"))
	require.NoError(t, err)
	require.Len(t, damaged, 1)
	require.NoError(t, os.WriteFile(damaged[0], []byte("secret"), 0o600))

	out := otelaudit("quarantine", "ls", "--json", directory)
	assert.Equal(t, exitRead, out.code)
	var listed struct{ Records []patient }
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &listed))
	require.Len(t, listed.Records, 3)
	failed, dropped, broken := listed.Records[0], listed.Records[1], listed.Records[2]
	assert.Equal(t, &asked{Action: "replay", At: "2027-01-15T08:01:00Z", Reason: "still too long"}, failed.Failure)
	assert.Nil(t, failed.Request)
	assert.Equal(t, "ticket 7", dropped.Request.Reason)
	assert.Equal(t, "1", dropped.Index)
	assert.Contains(t, broken.Error, "malformed file")
	assert.NotContains(t, out.stdout+out.stderr, "secret")

	text := otelaudit("quarantine", "ls", directory).stdout
	assert.Contains(t, text, `replay failed at 2027-01-15T08:01:00Z: "still too long"`)
	assert.Contains(t, text, `: "ticket 7"`)
	assert.Contains(t, text, "cannot be read: ")

	out = otelaudit("quarantine", "show", "--json", directory, at(0))
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &listed))
	assert.JSONEq(t, `{"record":{"body":"secret 0 \u009b31m\udb40\udc41"}}`, string(listed.Records[0].Event))
}

func TestQuarantineUsage(t *testing.T) {
	directory := kept(t, 1)
	for args, c := range map[string]struct {
		code int
		says string
	}{
		"":                              {exitUsage, "want ls, show, replay or drop"},
		"burn x":                        {exitUsage, `found "burn"`},
		"ls":                            {exitUsage, "name the quarantine directory"},
		"ls DIR " + at(0):               {exitUsage, "not both"},
		"ls --reason x DIR":             {exitUsage, "not defined: -reason"},
		"show DIR":                      {exitUsage, "name the coordinates"},
		"show DIR ../../etc/passwd":     {exitUsage, "is not <instance>/<journal id>/<life>/<index>"},
		"show --all DIR":                {exitUsage, "not defined: -all"},
		"show DIR " + at(7):             {exitRead, "no such file"},
		"replay DIR":                    {exitUsage, "name the coordinates"},
		"replay --all DIR " + at(0):     {exitUsage, "not both"},
		"replay no/such/place " + at(0): {exitRead, "no quarantine directory"},
		"replay --all no/such/place":    {exitRead, "no quarantine directory"},
		"drop --all DIR":                {exitUsage, "--reason TEXT"},
		"drop --all DIR --reason " + strings.Repeat("x", maxReason+1): {exitUsage, "is longer than 512 bytes"},
		"ls --help": {exitSound, ""},
		"help":      {exitSound, ""},
	} {
		out := otelaudit(append([]string{"quarantine"}, strings.Fields(strings.Replace(args, "DIR", directory, 1))...)...)
		assert.Equal(t, c.code, out.code, args)
		assert.Contains(t, out.stderr, c.says, args)
	}
	assert.Empty(t, requested(t, directory))
}
