// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// Retention says how much of each log is kept. Zero is all of it.
type Retention struct {
	// MaxAge is how much older the newest record of a file may be than the
	// newest one that came in: a collector that stood still empties nothing.
	MaxAge time.Duration
	// MaxBytes is how much all files of a log hold.
	MaxBytes int64
}

func (r Retention) on() bool { return r.MaxAge > 0 || r.MaxBytes > 0 }

// life is the folder of one life in the order of its log.
type life struct {
	name   string
	folder string
	list   folderList
}

// retain seals the files of lives that are over and removes the oldest files of
// a log, in order, as far as retention wants and the delivery allows.
func (s *Sink) retain(ctx context.Context, log string, known *delivery) error {
	// The start of a life must be stored before those before it are over.
	if known.index == 0 || !s.config.Retention.on() && known.sealed == known.origin {
		return nil
	}
	lives, err := s.lives(known.origin)
	if err != nil || len(lives) == 0 {
		return err
	}
	for i := range lives[:len(lives)-1] {
		if err := s.sealLife(ctx, &lives[i]); err != nil {
			return err
		}
	}
	known.sealed = known.origin
	s.upkeep.logs[log] = *known
	if !s.config.Retention.on() {
		return nil
	}
	return s.removeOld(lives, known)
}

// lives returns the folders of the lives up to the one of the given name, each
// the predecessor of the next by its start record. Lives that no start record
// of these leads to, of a copy or of a log in two parts, are not among them.
func (s *Sink) lives(name string) ([]life, error) {
	var found []life
	for seen := map[string]bool{}; name != "" && !seen[name]; {
		seen[name] = true
		l, err := s.life(name)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		found = append(found, l)
		if name, err = s.previous(&l); err != nil {
			return nil, err
		}
	}
	slices.Reverse(found)
	return found, nil
}

func (s *Sink) life(name string) (life, error) {
	l := life{name: name, folder: filepath.Join(s.config.Directory, filepath.FromSlash(name))}
	var err error
	l.list, err = listFolder(s.config.files, l.folder)
	return l, err
}

// isBefore says whether a life precedes another one, by name: of use only where
// a delivery comes again, which names what was there before.
func (s *Sink) isBefore(name, later string) bool {
	if later == "" {
		return false
	}
	lives, err := s.lives(later)
	return err != nil || slices.ContainsFunc(lives, func(l life) bool { return l.name == name })
}

// previous returns the life that the start record of l names, "" if there is
// none or it is not there any more.
func (s *Sink) previous(l *life) (previous string, err error) {
	if len(l.list.files) == 0 || l.list.files[0] != 0 {
		return "", nil
	}
	f, err := s.config.files.read(filepath.Join(l.folder, fileName(0)))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := firstLine(f)
	if err != nil {
		return "", err
	}
	parsed, err := audit.ParseLine(line)
	if err != nil || parsed.Kind != audit.LineEvent || parsed.Link.Index != 0 || parsed.Link.Stream != audit.StreamOrigin {
		return "", nil
	}
	logs, err := canonical.Parse(parsed.Event)
	if err != nil {
		return "", nil
	}
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	value, ok := record.Attributes().Get(audit.AttributeOriginPrevious)
	if record.EventName() != audit.EventOriginStart || !ok || value.Type() != pcommon.ValueTypeStr {
		return "", nil
	}
	here, err := chain.ParseOrigin(l.name)
	if err != nil {
		return "", err
	}
	before, err := chain.ParseOrigin(value.Str())
	if err != nil || before.Log() != here.Log() {
		return "", nil
	}
	return value.Str(), nil
}

// firstLine returns the first line of f without its newline.
func firstLine(f file) ([]byte, error) {
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	line, _, err := newLineReader(f, 0, size).next()
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	return line, err
}

// sealLife seals all files of a life that is over. Only where one has no
// manifest is the folder read.
func (s *Sink) sealLife(ctx context.Context, l *life) error {
	sealed := func(first uint64) bool { return l.list.manifests[first] }
	if !slices.ContainsFunc(l.list.files, func(first uint64) bool { return !sealed(first) }) {
		return nil
	}
	o, err := s.origin(ctx, l.name)
	if err != nil {
		return err
	}
	if err := errors.Join(o.finish(), s.forget(o)); err != nil {
		return err
	}
	*l, err = s.life(l.name)
	return err
}

// finish seals all files of the origin, the newest included.
func (o *origin) finish() error {
	if err := o.restore(); err != nil {
		return err
	}
	switch {
	case o.newest == nil:
	case o.size > 0:
		o.toSeal(o.first, &o.summary)
	default: // nothing of it was ever stored
		if err := o.config.files.remove(o.path(o.first)); err != nil {
			return err
		}
	}
	return o.seal()
}

// old is a file that could be removed.
type old struct {
	life     *life
	first    uint64
	manifest manifest
}

// removeOld removes from the start of a log.
func (s *Sink) removeOld(lives []life, known *delivery) error {
	total, err := s.size(lives)
	if err != nil {
		return err
	}
	for i := range lives {
		l := &lives[i]
		over := i < len(lives)-1
		groups, complete, err := s.groups(l, over, known)
		if err != nil {
			return err
		}
		for n, group := range groups {
			if !s.wanted(group, total, known) {
				return nil
			}
			// The manifest that says what is gone is from now on in this folder.
			if n == 0 && i > 0 {
				if err := s.removeFolder(&lives[i-1]); err != nil {
					return err
				}
			}
			bytes, err := s.removeGroup(group)
			total -= bytes
			if err != nil {
				return err
			}
		}
		if !complete {
			return nil
		}
	}
	return nil
}

// size is how much the files of lives hold.
func (s *Sink) size(lives []life) (total int64, err error) {
	for i := range lives {
		for _, first := range lives[i].list.files {
			size, err := s.config.files.size(filepath.Join(lives[i].folder, fileName(first)))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return 0, err
			}
			total += size
		}
	}
	return total, nil
}

// groups returns the files at the start of a life that are sealed and delivered,
// in groups that can go without a gap in what stays: a record that was stored
// late stands in a later file, and goes together with those that belong to it.
// complete says that no file is left behind them.
func (s *Sink) groups(l *life, over bool, known *delivery) (groups [][]old, complete bool, err error) {
	var files []old
	least := uint64(math.MaxUint64) // index in the files that stay for sure
	for i, first := range l.list.files {
		if !l.list.manifests[first] || !over && i == len(l.list.files)-1 {
			if i < len(l.list.files)-1 {
				return nil, false, nil // it gets its manifest when the folder is read
			}
			o := s.origins[l.name]
			if o == nil || o.first != first {
				return nil, false, nil // nothing is known of the newest file
			}
			if o.summary.records.used {
				least = o.summary.records.low
			}
			break
		}
		m, err := readManifest(s.config.files, l.folder, l.name, first)
		if err != nil {
			return nil, false, fmt.Errorf("%w: move the manifest away, it is made anew at the next start", err)
		}
		if !over && m.end() > known.index {
			if m.records.used {
				least = min(least, m.records.low)
			}
			break
		}
		files = append(files, old{l, first, m})
	}
	return divide(files, least), len(files) == len(l.list.files), nil
}

// divide cuts files into the smallest groups of which each holds only indexes
// below all of those behind it, of which least is the lowest in the rest.
func divide(files []old, least uint64) [][]old {
	lowest := make([]uint64, len(files)) // in all files behind
	for i, f := range slices.Backward(files) {
		lowest[i] = least
		if f.manifest.records.used {
			least = min(least, f.manifest.records.low)
		}
	}
	var groups [][]old
	start, end := 0, uint64(0)
	for i := range files {
		end = max(end, files[i].manifest.end())
		if lowest[i] >= end {
			groups = append(groups, files[start:i+1])
			start = i + 1
		}
	}
	return groups
}

// wanted says whether retention wants a group gone.
func (s *Sink) wanted(group []old, total int64, known *delivery) bool {
	keep := s.config.Retention
	if keep.MaxBytes > 0 && total > keep.MaxBytes {
		return true
	}
	return keep.MaxAge > 0 && !slices.ContainsFunc(group, func(o old) bool {
		return o.manifest.records.used && known.latest-o.manifest.latest <= int64(keep.MaxAge)
	})
}

// removeGroup removes files in order. The manifest of the last one stays, until
// more is removed: by it a delivery that comes again is known to be stored.
func (s *Sink) removeGroup(group []old) (bytes int64, err error) {
	for i := range group {
		if err := s.removeFile(&group[i]); err != nil {
			return bytes, err
		}
		bytes += group[i].manifest.bytes
	}
	return bytes, nil
}

// removeFile removes one file, and then the manifests of those before it.
func (s *Sink) removeFile(o *old) error {
	path := filepath.Join(o.life.folder, fileName(o.first))
	m := &o.manifest
	if err := s.config.files.remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if open := s.origins[o.life.name]; open != nil {
		open.removed(o.first, m.end())
	}
	s.upkeep.condition.Removed++
	s.upkeep.condition.RemovedBytes += m.bytes
	s.config.Logger.Info("retention removed an audit file", zap.String("file", path), zap.Uint64("first", m.records.low),
		zap.Uint64("last", m.records.high), zap.Stringer("sha256", m.sha256), zap.Int64("bytes", m.bytes))
	if err := s.config.files.syncDir(o.life.folder); err != nil {
		return err
	}
	o.life.list.files = slices.DeleteFunc(o.life.list.files, func(first uint64) bool { return first == o.first })
	return s.removeManifests(o.life, o.first)
}

// removeManifests removes those of files that are gone and start before first.
func (s *Sink) removeManifests(l *life, first uint64) error {
	for _, gone := range l.list.removed() {
		if gone >= first {
			continue
		}
		if err := s.config.files.remove(filepath.Join(l.folder, manifestName(gone))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		delete(l.list.manifests, gone)
	}
	return nil
}

// removeFolder removes a life of which nothing is left, unless evidence is
// there, and what is empty above it.
func (s *Sink) removeFolder(l *life) error {
	if len(l.list.files) > 0 {
		return nil
	}
	if err := s.removeManifests(l, math.MaxUint64); err != nil {
		return err
	}
	if open := s.origins[l.name]; open != nil {
		if err := s.forget(open); err != nil {
			return err
		}
	}
	err := s.config.files.remove(l.folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !isNotEmpty(err) {
		return err
	}
	return s.config.files.syncDir(filepath.Dir(l.folder))
}

// removed forgets a file that retention has removed.
func (o *origin) removed(first, end uint64) {
	o.floor = max(o.floor, end)
	o.stored.blocks = slices.DeleteFunc(o.stored.blocks, func(b block) bool { return b.file == first })
}
