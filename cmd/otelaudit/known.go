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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	if !filepath.IsAbs(base) { // the standard says to pass over such a one
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
			return nil, fmt.Errorf("read what earlier runs learned, %s: %w; bring back what was there, or move it away:"+
				" then what they learned is forgotten", filepath.Join(k.directory, entry.Name()), err)
		}
	}
	return k, nil
}

func (k *known) load(name string) error {
	name, ok := strings.CutSuffix(name, ".json")
	if !ok {
		return nil
	}
	switch {
	case strings.HasPrefix(name, instanceName("")):
		return k.loadInstance(name)
	case strings.HasPrefix(name, logName("")):
		return k.loadLog(name)
	default:
		return nil
	}
}

// read decodes a file as write has written it. It is not ours if it says more,
// and waits for nobody who would write to a pipe.
func (k *known) read(name string, into any) error {
	info, err := os.Stat(k.path(name))
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	text, err := os.ReadFile(k.path(name))
	if err != nil {
		return err
	}
	return decode(text, into)
}

// decode reads the one value that text is.
func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return errors.New("there is nothing in it")
	}
	if err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind what is to be in it")
	}
	return nil
}

func (k *known) loadInstance(name string) error {
	var f instanceFile
	if err := k.read(name, &f); err != nil {
		return err
	}
	if instanceName(f.Instance) != name || len(f.Keys) == 0 {
		return errors.New("it does not name a key of the instance that it is named after")
	}
	var pins []verify.Pin
	for _, each := range f.Keys {
		key, err := base64.StdEncoding.DecodeString(each.Key)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return errors.New("key is not the base64 of an Ed25519 key")
		}
		pins = append(pins, verify.Pin{Key: key, Ended: each.Ended})
	}
	k.pins[f.Instance] = pins
	return nil
}

func (k *known) loadLog(name string) error {
	var f logFile
	if err := k.read(name, &f); err != nil {
		return err
	}
	if logName(f.Log) != name || len(f.Lives) == 0 {
		return errors.New("it does not name a life of the log that it is named after")
	}
	var floor verify.Floor
	for _, each := range f.Lives {
		origin, err := chain.ParseOrigin(each.Origin)
		if err != nil || origin.Log() != f.Log {
			return fmt.Errorf("%q is not a life of log %q", each.Origin, f.Log)
		}
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
// rises, also where another run has learned meanwhile.
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
	lock, err := durable.LockFileWithin(filepath.Join(k.directory, "lock"), lockTime)
	if err != nil {
		return err
	}
	return errors.Join(k.add(l), lock.Unlock())
}

// lockTime is how long another run is waited for. It writes a few small files.
const lockTime = 10 * time.Second

// add writes what is to be learned beside what is known by now.
func (k *known) add(l *verify.Learned) error {
	now := &known{directory: k.directory, pins: map[string][]verify.Pin{}, floors: map[string]verify.Floor{}}
	for instance, pins := range l.Pins {
		err := now.loadInstance(instanceName(instance))
		switch {
		case err == nil && !now.holds(instance, pins):
			return fmt.Errorf("another run has met another key for instance %q meanwhile, remembered in %s: one of the two stores"+
				" is not this instance's; name its key with --key", instance, k.path(instanceName(instance)))
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s: %w", k.path(instanceName(instance)), err)
		}
		f := instanceFile{Instance: instance}
		for _, pin := range pins {
			f.Keys = append(f.Keys, keyFile{Key: base64.StdEncoding.EncodeToString(pin.Key), Ended: pin.Ended})
		}
		if err := k.write(instanceName(instance), f); err != nil {
			return err
		}
	}
	for log, floor := range l.Floors {
		if err := now.loadLog(logName(log)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", k.path(logName(log)), err)
		}
		f := logFile{Log: log}
		for _, life := range now.floors[log].Merge(floor).Lives {
			f.Lives = append(f.Lives, lifeFile{Origin: life.Origin, First: life.First, Size: life.Size, Root: life.Root.String()})
		}
		if err := k.write(logName(log), f); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether all of pins are known.
func (k *known) holds(instance string, pins []verify.Pin) bool {
	return !slices.ContainsFunc(pins, func(pin verify.Pin) bool {
		return !slices.ContainsFunc(k.pins[instance], func(there verify.Pin) bool { return there.Key.Equal(pin.Key) })
	})
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
