// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// minRequestBytes is how far 413 brings the size of requests down.
const minRequestBytes = 4 << 10

// delivery is one Write. Entries wait, encoded, in a queue; what is at its head
// goes into the next request.
type delivery struct {
	sink    *Sink
	entries []sink.Entry // not in the queue yet
	refuse  sink.Refuse
	result  sink.Result

	queue  []item
	queued map[sink.Coordinate]struct{}
	bytes  int    // of the queue's texts
	memory []byte // of the queue's texts
}

func (d *delivery) run(ctx context.Context) error {
	for {
		if err := d.fill(); err != nil {
			return err
		}
		if len(d.queue) == 0 {
			return nil
		}
		if err := d.step(ctx); err != nil {
			return err
		}
	}
}

// fill takes entries into the queue until it holds a request, or the next one
// has to wait for what is in it.
func (d *delivery) fill() error {
	if len(d.queue) == 0 {
		d.memory = d.memory[:0] // every body is a copy
	}
	for len(d.entries) > 0 && d.bytes < d.sink.mostBytes && len(d.queue) < d.sink.config.MaxRequestRecords {
		e := &d.entries[0]
		if _, waits := d.queued[e.Coordinate()]; waits {
			return nil // it is compared once the first is delivered
		}
		if err := d.add(e); err != nil {
			return fmt.Errorf("%s: %w", e.Coordinate(), err)
		}
		d.entries = d.entries[1:]
	}
	return nil
}

// add puts e into the queue, unless it is not to be sent.
func (d *delivery) add(e *sink.Entry) error {
	if e.Kind == audit.LineCheckpoint && !d.sink.form.checkpoints {
		return nil
	}
	if known, ok := d.sink.delivered.get(e.Coordinate()); ok {
		return d.repeat(e, known)
	}
	start := len(d.memory)
	var err error
	if d.memory, err = d.sink.form.append(d.memory, e); err != nil {
		return err
	}
	if size := len(d.memory) - start; size > d.sink.form.mostBytes && !e.IsOurs() {
		d.memory = d.memory[:start]
		return d.addStub(e, fmt.Sprintf("its line of %d bytes is longer than the %d that a verifier reads", size, d.sink.form.mostBytes))
	}
	d.push(item{entry: e, text: d.memory[start:]})
	return nil
}

func (d *delivery) push(it item) {
	d.queue = append(d.queue, it)
	d.queued[it.entry.Coordinate()] = struct{}{}
	d.bytes += len(it.text)
}

// addStub puts a record, refused for a reason that needs no endpoint, into the
// queue as a stub.
func (d *delivery) addStub(e *sink.Entry, reason string) error {
	if err := d.quarantine(e, reason); err != nil {
		return err
	}
	start := len(d.memory)
	d.memory = d.sink.form.stub(d.memory, e)
	d.push(item{entry: e, text: d.memory[start:], refused: reason})
	return nil
}

func (d *delivery) quarantine(e *sink.Entry, reason string) error {
	if err := d.refuse(e, reason); err != nil {
		return fmt.Errorf("keep the refused record: %w", err)
	}
	return nil
}

// repeat is what becomes of an entry that was delivered before.
func (d *delivery) repeat(e *sink.Entry, known mark) error {
	if known.hash != hashOf(e) {
		return fmt.Errorf("%w: this sink delivered another hash for it", sink.ErrConflict)
	}
	if known.refused != "" {
		if err := d.quarantine(e, known.refused); err != nil {
			return err
		}
	}
	d.result.Repeated++
	return nil
}

// step sends the head of the queue and does what the answer asks for.
func (d *delivery) step(ctx context.Context) error {
	n := d.head()
	a, err := d.post(ctx, d.queue[:n])
	d.sink.learnTime(n, err)
	switch {
	case err != nil:
		return err
	case a.verdict == taken:
		d.settle(0, n)
		d.sink.window = min(max(d.sink.window, 2*n), d.sink.config.MaxRequestRecords)
		return nil
	case n > 1:
		// Smaller requests find the one record that is the cause. The window
		// stays small for the next Write, should this one run out of time.
		d.sink.window = n / 2
		if a.verdict == tooLarge {
			d.learnSize(n)
		}
		return nil
	case a.verdict == conflict:
		return d.compare(&a)
	}
	return d.judge(ctx, &a)
}

// mostLate is how often a request that time was too short for is repeated as it
// is: it may be stored, and then its key is known.
const mostLate = 3

// learnTime has requests be smaller where time is always too short for one of n
// items: what never fits would never be stored.
func (s *Sink) learnTime(n int, err error) {
	var timed interface{ Timeout() bool }
	if err == nil || !errors.As(err, &timed) || !timed.Timeout() {
		s.late = 0
		return
	}
	if s.late++; s.late >= mostLate {
		s.late, s.window = 0, max(n/2, 1)
	}
}

// head is how many of the queue make up the next request.
func (d *delivery) head() int {
	size, n := len(d.queue[0].text), 1
	for n < min(len(d.queue), d.sink.window) {
		size += len(d.queue[n].text) + len(d.sink.form.separator)
		if size+len(d.sink.form.prefix)+len(d.sink.form.suffix) > d.sink.mostBytes {
			break
		}
		n++
	}
	return n
}

// post sends items, counts the bytes and names the first in an error.
func (d *delivery) post(ctx context.Context, items []item) (answer, error) {
	a, err := d.sink.post(ctx, items, d.sink.keyOf(items))
	if err != nil {
		return a, fmt.Errorf("%s: %w", items[0].entry.Coordinate(), err)
	}
	for i := range items {
		d.result.Bytes += int64(len(items[i].text))
	}
	return a, nil
}

// learnSize remembers that a request of the first n items was too large.
func (d *delivery) learnSize(n int) {
	size := 0
	for i := range d.queue[:n] {
		size += len(d.queue[i].text)
	}
	if less := max(size/2, minRequestBytes); less < d.sink.mostBytes {
		d.sink.mostBytes = less
		d.sink.config.Logger.Warn("the endpoint says that a request is too large; smaller ones are sent until the next start:"+
			" set `http::max_request_bytes` to what it takes", zap.Int("too_large", size), zap.Int("now", less))
	}
}

// settle takes items from to end, which the endpoint has now, off the queue.
func (d *delivery) settle(from, end int) {
	for i := range d.queue[from:end] {
		it := &d.queue[from+i]
		switch {
		case it.refused != "":
			d.result.Refused++
		case it.entry.Kind == audit.LineCheckpoint:
			d.result.Checkpoints++
		default:
			d.result.Stored++
		}
		if it.refused == "" {
			d.sink.witness.see(it)
		}
	}
	d.remove(from, end)
}

// remove takes items off the queue and remembers that they need not be sent
// again.
func (d *delivery) remove(from, end int) {
	for i := range d.queue[from:end] {
		it := &d.queue[from+i]
		c := it.entry.Coordinate()
		d.sink.delivered.put(c, mark{hash: hashOf(it.entry), refused: it.refused})
		delete(d.queued, c)
		d.bytes -= len(it.text)
	}
	d.queue = slices.Delete(d.queue, from, end)
}

// compare judges a conflict about the one item at the head.
func (d *delivery) compare(a *answer) error {
	it := &d.queue[0]
	same, err := holds(a, it.entry)
	if err != nil {
		return fmt.Errorf("%s: %w", it.entry.Coordinate(), err)
	}
	if !same {
		return fmt.Errorf("%s: %w: the endpoint answered %s with another hash", it.entry.Coordinate(), sink.ErrConflict, a.status)
	}
	d.result.Repeated++
	d.remove(0, 1)
	return nil
}

// errUndecided says that a conflict does not name what is stored.
var errUndecided = errors.New("the endpoint answered 409 Conflict without the `hash` that it holds:" +
	" it is still busy with the same request, or it holds something else and does not say what")

// holds says whether a conflict is about the same content.
func holds(a *answer, e *sink.Entry) (bool, error) {
	if told, err := chain.ParseHash([]byte(a.hash)); err == nil {
		return told == hashOf(e), nil
	}
	told, err := chain.ParseHash([]byte(a.integrity))
	if err != nil || e.Kind != audit.LineEvent {
		return false, errUndecided
	}
	var encoder canonical.Encoder
	err = encoder.SetGroup(e.Resource.Resource(), e.Resource.SchemaUrl(), e.Scope.Scope(), e.Scope.SchemaUrl())
	if err != nil {
		return false, errUndecided
	}
	record, err := encoder.AppendRecord(nil, e.Record)
	if err != nil {
		return false, errUndecided
	}
	return told == sha256.Sum256(record), nil
}

// giveUp hands the record at the head to refuse, and has its stub sent in its
// place.
func (d *delivery) giveUp(reason string) error {
	it := &d.queue[0]
	if err := d.quarantine(it.entry, reason); err != nil {
		return fmt.Errorf("%s: %w", it.entry.Coordinate(), err)
	}
	it.refused = reason
	if d.sink.form.stub == nil {
		d.settle(0, 1)
		return nil
	}
	d.bytes -= len(it.text)
	it.text = d.sink.form.stub(nil, it.entry)
	d.bytes += len(it.text)
	return nil
}

// replay sends e alone, and does not look for reasons.
func (d *delivery) replay(ctx context.Context, e *sink.Entry) error {
	known, ok := d.sink.delivered.get(e.Coordinate())
	if ok && (known.hash != hashOf(e) || known.refused == "") {
		if err := d.repeat(e, known); err != nil {
			return fmt.Errorf("%s: %w", e.Coordinate(), err)
		}
		return nil
	}
	text, err := d.sink.form.append(nil, e)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Coordinate(), err)
	}
	if len(text) > d.sink.form.mostBytes {
		return fmt.Errorf("%s: %w: its line of %d bytes is longer than the %d that a verifier reads",
			e.Coordinate(), sink.ErrRefused, len(text), d.sink.form.mostBytes)
	}
	d.push(item{entry: e, text: text})
	a, err := d.post(ctx, d.queue)
	switch {
	case err != nil:
		return err
	case a.verdict == taken:
		d.settle(0, 1)
		return nil
	case a.verdict == conflict:
		return d.compare(&a)
	}
	return fmt.Errorf("%s: %w: the endpoint answered %s", e.Coordinate(), sink.ErrRefused, a.status)
}
