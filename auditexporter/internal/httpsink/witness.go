// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// maxTried is how many records of clients are tried before a refusal counts as
// the endpoint's, not theirs.
const maxTried = 8

// maxWitness bounds the text that a witness keeps.
const maxWitness = 64 << 10

// witness is something that the endpoint took: while it takes that again, what
// it refuses beside it is refused for its own sake.
type witness struct {
	text   []byte // nil if there is none yet
	client bool   // it is a client's record, which says more than one of ours
}

// see keeps what was taken, if it says at least as much as what there is.
func (w *witness) see(it *item) {
	client := !it.entry.IsOurs()
	if len(it.text) <= maxWitness && (client || !w.client) {
		*w = witness{text: append(w.text[:0], it.text...), client: client}
	}
}

// judge finds out whose fault it is that the record at the head is refused,
// alone. It is the record's if the endpoint takes something else, and then
// refuses the record once more. All else is an outage: nothing is given up, and
// the error says what an operator has to look at.
func (d *delivery) judge(ctx context.Context, a *answer) error {
	it := &d.queue[0]
	c := it.entry.Coordinate()
	if it.entry.IsOurs() {
		return fmt.Errorf("%s: %w: the endpoint answered %s to what the collector itself sealed:"+
			" `http::endpoint` or `http::format` is wrong, or it allows too little", c, sink.ErrOperator, a.status)
	}
	if it.refused != "" {
		return fmt.Errorf("%s: %w: the endpoint answered %s to the stub of a refused record", c, sink.ErrOperator, a.status)
	}
	if err := d.testify(ctx, a); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	again, err := d.post(ctx, d.queue[:1])
	switch {
	case err != nil:
		return err
	case again.verdict == taken:
		d.settle(0, 1)
		return nil
	case again.verdict == conflict:
		return d.compare(&again)
	}
	return d.giveUp(fmt.Sprintf("the endpoint answered %s to it alone, and takes others", again.status))
}

// testify returns nil if the endpoint takes something beside the record at the
// head: best a client's record that it took before, then another one that
// waits, then one of our own, and where there is nothing else, an empty request.
func (d *delivery) testify(ctx context.Context, a *answer) error {
	kept := d.sink.witness
	if kept.client {
		return d.testifyKept(ctx, &kept)
	}
	others := d.others()
	for _, i := range others {
		if found, err := d.testifyQueued(ctx, i); found || err != nil {
			return err
		}
	}
	if len(others) == maxTried-1 {
		return fmt.Errorf("%w: the endpoint answers %s to each of %d records, one by one, and has not taken any yet:"+
			" `http::endpoint` or `http::format` is wrong", sink.ErrOperator, a.status, maxTried)
	}
	if kept.text != nil {
		return d.testifyKept(ctx, &kept)
	}
	if i := slices.IndexFunc(d.queue, func(it item) bool { return it.entry.IsOurs() }); i >= 0 {
		found, err := d.testifyQueued(ctx, i)
		if err == nil && !found {
			err = errNoWitness(a)
		}
		return err
	}
	return d.testifyEmpty(ctx, a)
}

// others returns where in the queue clients' records wait behind the head: at
// most maxTried-1, from all over it, because what is refused often comes in runs.
func (d *delivery) others() []int {
	var all []int
	for i := range d.queue {
		if i > 0 && !d.queue[i].entry.IsOurs() && d.queue[i].refused == "" {
			all = append(all, i)
		}
	}
	if len(all) < maxTried {
		return all
	}
	some := make([]int, 0, maxTried-1)
	for k := range maxTried - 1 {
		some = append(some, all[k*(len(all)-1)/(maxTried-2)])
	}
	return some
}

func errNoWitness(a *answer) error {
	return fmt.Errorf("%w: the endpoint answers %s, also to what it should take: `http::endpoint` or `http::format` is wrong,"+
		" or it allows too little", sink.ErrOperator, a.status)
}

// testifyKept sends what the endpoint took before.
func (d *delivery) testifyKept(ctx context.Context, kept *witness) error {
	a, err := d.sink.post(ctx, []item{{text: kept.text}}, d.sink.freshKey())
	if err == nil && a.verdict != taken && a.verdict != conflict { // a conflict: it knows the record
		err = errNoWitness(&a)
	}
	return err
}

// testifyQueued sends item i of the queue ahead of its turn. It is false if that
// is refused as well.
func (d *delivery) testifyQueued(ctx context.Context, i int) (bool, error) {
	a, err := d.post(ctx, d.queue[i:i+1])
	if err != nil || a.verdict == refused || a.verdict == tooLarge {
		return false, err
	}
	if a.verdict == taken { // a conflict is compared in its turn
		d.settle(i, i+1)
	}
	return true, nil
}

// testifyEmpty sends an empty request. What is refused for its size alone need
// not even be taken.
func (d *delivery) testifyEmpty(ctx context.Context, a *answer) error {
	empty, err := d.sink.post(ctx, nil, d.sink.freshKey())
	if err == nil && empty.verdict != taken && (a.verdict != tooLarge || empty.verdict == tooLarge) {
		err = errNoWitness(a)
	}
	return err
}

// freshKey is an Idempotency-Key that was not used before: the endpoint has to
// look at the request.
func (s *Sink) freshKey() string {
	sum := sha256.Sum256([]byte("otelaudit/1 " + string(s.config.Format) + "\nwitness " + rand.Text() + "\n"))
	return hex.EncodeToString(sum[:])
}
