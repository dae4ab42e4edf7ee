// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/audit/verify"
	"github.com/otelaudit/otelaudit/internal/durable"
)

// known is what earlier runs have learned, one file for each instance and one
// for each log:
//
//	<config>/otelaudit/known/instance-<instance>.json
//	<config>/otelaudit/known/log-<instance>-<journal id>.json
type known struct {
	directory string
	pins      map[string][]verify.Pin
	floors    map[string]verify.Floor
}

type instanceFile struct {
	Instance string    `json:"instance"`
	Keys     []keyFile `json:"keys"`
}

type keyFile struct {
	Key   string `json:"key"`             // standard base64 of the raw Ed25519 key
	Ended bool   `json:"ended,omitempty"` // set by hand when the key's validity has ended
}

type logFile struct {
	Log   string     `json:"log"`
	Lives []lifeFile `json:"lives"`
}

type lifeFile struct {
	Origin string `json:"origin"`
	First  uint64 `json:"first,string"`
	Size   uint64 `json:"size,string"`
	Root   string `json:"root"`
}

// openKnown reads all that was learned. No directory means nothing was.
func openKnown() (*known, error) {
	k := &known{pins: map[string][]verify.Pin{}, floors: map[string]verify.Floor{}}
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return k, nil //nolint:nilerr // nowhere to remember, nothing remembered
		}
		base = filepath.Join(home, ".config")
	}
	k.directory = filepath.Join(base, "otelaudit", "known")
	entries, err := os.ReadDir(k.directory)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what earlier runs learned: %w", err)
	}
	for _, entry := range entries {
		if err := k.load(entry.Name()); err != nil {
			return nil, fmt.Errorf("read what earlier runs learned, %s: %w", filepath.Join(k.directory, entry.Name()), err)
		}
	}
	return k, nil
}

func (k *known) load(name string) error {
	if !strings.HasSuffix(name, ".json") {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(k.directory, name))
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(name, "instance-"):
		return k.loadInstance(text)
	case strings.HasPrefix(name, "log-"):
		return k.loadLog(text)
	default:
		return nil
	}
}

func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (k *known) loadInstance(text []byte) error {
	var f instanceFile
	if err := decode(text, &f); err != nil {
		return err
	}
	for _, each := range f.Keys {
		key, err := base64.StdEncoding.DecodeString(each.Key)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return errors.New("key is not the base64 of an Ed25519 key")
		}
		k.pins[f.Instance] = append(k.pins[f.Instance], verify.Pin{Key: key, Ended: each.Ended})
	}
	return nil
}

func (k *known) loadLog(text []byte) error {
	var f logFile
	if err := decode(text, &f); err != nil {
		return err
	}
	var floor verify.Floor
	for _, each := range f.Lives {
		root, err := chain.ParseHash(each.Root)
		if err != nil {
			return fmt.Errorf("root of %s: %w", each.Origin, err)
		}
		floor.Lives = append(floor.Lives, verify.FloorLife{Origin: each.Origin, First: each.First, Size: each.Size, Root: root})
	}
	k.floors[f.Log] = floor
	return nil
}

// learn writes what a run has proven. Pins are never replaced; a floor only
// rises.
func (k *known) learn(l *verify.Learned) error {
	if len(l.Pins)+len(l.Floors) == 0 {
		return nil
	}
	if k.directory == "" {
		return errors.New("no configuration directory: set HOME or XDG_CONFIG_HOME")
	}
	if err := durable.MkdirAll(k.directory); err != nil {
		return err
	}
	for instance, pins := range l.Pins {
		f := instanceFile{Instance: instance}
		for _, pin := range pins {
			f.Keys = append(f.Keys, keyFile{Key: base64.StdEncoding.EncodeToString(pin.Key), Ended: pin.Ended})
		}
		if err := k.write(instanceName(instance), f); err != nil {
			return err
		}
	}
	for log, floor := range l.Floors {
		f := logFile{Log: log}
		for _, life := range k.floors[log].Merge(floor).Lives {
			f.Lives = append(f.Lives, lifeFile{Origin: life.Origin, First: life.First, Size: life.Size, Root: life.Root.String()})
		}
		if err := k.write(logName(log), f); err != nil {
			return err
		}
	}
	return nil
}

func instanceName(instance string) string { return "instance-" + instance }
func logName(log string) string           { return "log-" + strings.ReplaceAll(log, "/", "-") }

func (k *known) path(name string) string { return filepath.Join(k.directory, name+".json") }

func (k *known) write(name string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return durable.WriteFile(k.path(name), append(text, '\n'))
}
