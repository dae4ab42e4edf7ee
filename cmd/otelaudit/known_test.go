// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
)

// What is remembered and is not what was written ends the run: taken for
// nothing, it would be forgotten in silence. Nor is anybody waited for.
func TestKnownMustBeAsWritten(t *testing.T) {
	known := fresh(t)
	require.Equal(t, exitSound, otelaudit("verify", files("sound")).code)
	instance := filepath.Join(known, "instance-host-1.json")
	log := filepath.Join(known, "log-host-1-00112233445566aa.json")
	replace := func(old, by string) func(string) error {
		return func(path string) error {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			changed := bytes.Replace(text, []byte(old), []byte(by), 1)
			require.NotEqual(t, text, changed)
			return os.WriteFile(path, changed, 0o600)
		}
	}
	put := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	instead := func(make func(path string) error) func(string) error {
		return func(path string) error {
			require.NoError(t, os.Remove(path))
			return make(path)
		}
	}
	for name, change := range map[string]struct {
		path string
		how  func(path string) error
	}{
		"key empty":              {instance, put("")},
		"key null":               {instance, put("null")},
		"key bare":               {instance, put("{}")},
		"keys gone":              {instance, put(`{"instance":"host-1","keys":[]}`)},
		"key of another":         {instance, replace("host-1", "host-2")},
		"key twice":              {instance, replace("]\n}", "]\n}{}")},
		"key pipe":               {instance, instead(func(path string) error { return unix.Mkfifo(path, 0o600) })},
		"floor empty":            {log, put("")},
		"floor null":             {log, put("null")},
		"floor bare":             {log, put("{}")},
		"floor without lives":    {log, put(`{"log":"host-1/00112233445566aa","lives":[]}`)},
		"floor of another":       {log, replace("00112233445566aa", "00112233445566bb")},
		"floor with a strange":   {log, replace(`"origin": "host-1/`, `"origin": "../`)},
		"floor cut":              {log, replace("\n}\n", "")},
		"floor with a tail":      {log, replace("]\n}\n", "]\n}\nx")},
		"floor with a bracket":   {log, replace("]\n}\n", "]\n}\n]")},
		"floor with a brace":     {log, replace("]\n}\n", "]\n}}\n{")},
		"floor beyond numbers":   {log, replace(`"size": "`, `"size": "99999999999999999999`)},
		"floor pipe":             {log, instead(func(path string) error { return unix.Mkfifo(path, 0o600) })},
		"floor that never ends":  {log, instead(func(path string) error { return os.Symlink("/dev/zero", path) })},
		"floor behind a link":    {log, instead(func(path string) error { return os.Symlink("nothing", path) })},
		"floor that is a folder": {log, instead(func(path string) error { return os.Mkdir(path, 0o700) })},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(change.path)
			require.NoError(t, err)
			require.NoError(t, change.how(change.path))
			out := otelaudit("verify", files("sound"))
			assert.Equal(t, exitRead, out.code, out.stdout)
			assert.Contains(t, out.stderr, change.path)
			require.NoError(t, os.Remove(change.path))
			require.NoError(t, os.WriteFile(change.path, text, 0o600))
		})
	}
	out := otelaudit("verify", files("sound"))
	assert.Equal(t, exitSound, out.code)
	assert.Contains(t, out.stdout, "trust: pinned key")
}

// Two runs at one time: what the one has learned, the other neither lowers nor
// replaces.
func TestKnownOfTwoRuns(t *testing.T) {
	fresh(t)
	const log = "host-1/00112233445566aa"
	life := func(size uint64) map[string]verify.Floor {
		return map[string]verify.Floor{log: {Lives: []verify.FloorLife{{
			Origin: log + "/20261123T090700Z-0a0b0c0d", Size: size, Root: chain.Hash{byte(size)},
		}}}}
	}
	pin := func(b byte) map[string][]verify.Pin {
		return map[string][]verify.Pin{"host-1": {{Key: bytes.Repeat([]byte{b}, 32)}}}
	}
	one, err := openKnown()
	require.NoError(t, err)
	two, err := openKnown()
	require.NoError(t, err)
	require.NoError(t, two.learn(&verify.Learned{Pins: pin(1), Floors: life(20)}))
	require.NoError(t, one.learn(&verify.Learned{Pins: pin(1), Floors: life(10)}), "the same key")
	now, err := openKnown()
	require.NoError(t, err)
	assert.Equal(t, life(20), now.floors)
	require.ErrorContains(t, one.learn(&verify.Learned{Pins: pin(2), Floors: life(30)}), "another key")
	now, err = openKnown()
	require.NoError(t, err)
	assert.Equal(t, life(20), now.floors)
	assert.Equal(t, pin(1), now.pins)

	const runs = 20
	ended := make(chan error, runs)
	for i := range runs {
		go func() { ended <- one.learn(&verify.Learned{Floors: life(uint64(30 + i))}) }()
	}
	for range runs {
		require.NoError(t, <-ended)
	}
	now, err = openKnown()
	require.NoError(t, err)
	assert.Equal(t, life(30+runs-1), now.floors)
}

// A path that is not absolute would be another memory in each directory.
func TestKnownIsNotWhereTheRunIs(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "here")
	t.Setenv("HOME", t.TempDir())
	k, err := openKnown()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(os.Getenv("HOME"), ".config", "otelaudit", "known"), k.directory)
}
