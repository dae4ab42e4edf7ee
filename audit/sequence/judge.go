// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package sequence

// Digest stands for a hash, an id or a key: two are the same if they stand for
// the same. Zero stands for none.
type Digest [16]byte

// Point is a record that the next one of its stream is compared with.
type Point struct {
	Number int64  // 0: it had none
	Sent   Digest // of its hash as it was sent
	Stored Digest // of its hash as it was stored, which a receipt gives the producer; zero: the same
	ID     Digest // of its record id
}

// Head is the newest record of a stream.
type Head struct {
	Point
	Key    Digest // of the key that proves the stream's records; zero: they are not proven
	Linked bool   // a record of the stream has named the one before it
	Ended  bool
	// Unproven is the newest of the records behind the head whose proofs failed.
	// They move nothing, but are there. Zero: there are none.
	Unproven Point
}

// Record is a record that claims a place in a stream.
type Record struct {
	Place
	Sent       Digest // of its hash as it was sent
	Previous   Digest // of PreviousHash
	PreviousID Digest // of Place.PreviousID
	ID         Digest // of its record id
	Key        Digest // of the key that proved it
	NextKey    Digest // of the key that takes over after it
}

// Finding says what is wrong with a place: one word of a fixed list, empty for
// nothing.
type Finding string

// The findings. The first four break no rule.
const (
	Joined    Finding = "joined"    // the first record that is known of the stream, but not its first
	Repeat    Finding = "repeat"    // the newest record again
	Ambiguous Finding = "ambiguous" // there is no stream id, or nothing else in a stream of numbers: the place says nothing
	Unproven  Finding = "unproven"  // the records before it are there, but their proofs failed

	Malformed  Finding = "malformed"    // an attribute has another type or form than the draft wants
	Gap        Finding = "gap"          // records are missing before it
	Fork       Finding = "fork"         // another record than the one that has this place, or a second beginning
	OutOfOrder Finding = "out_of_order" // behind a record of a higher number
	Broken     Finding = "broken"       // the record before it is not the one it names
	AfterEnd   Finding = "after_end"    // the stream has ended
	KeyChange  Finding = "key_change"   // not proven by the stream's key, and no transition came before
)

// Findings are all that there are.
var Findings = [...]Finding{Joined, Repeat, Ambiguous, Unproven, Malformed, Gap, Fork, OutOfOrder, Broken, AfterEnd, KeyChange}

// Violates says whether the finding breaks a rule.
func (f Finding) Violates() bool {
	return f != "" && f != Joined && f != Repeat && f != Ambiguous && f != Unproven
}

// Explain says what a violation is about.
func (f Finding) Explain() string {
	switch f {
	case Malformed:
		return "an attribute has another type or form than the draft has"
	case Gap:
		return "records are missing before this one"
	case Fork:
		return "another record has this place already"
	case OutOfOrder:
		return "a record of a higher number came before"
	case Broken:
		return "the record before it is not the one that it names"
	case AfterEnd:
		return "the stream has ended: begin one with another stream id"
	case KeyChange:
		return "it is not proved by the stream's key, and no key transition came before"
	default:
		return ""
	}
}

// names says whether the record names the one before it.
func (r *Record) names() bool { return r.Previous != Digest{} || r.PreviousID != Digest{} }

// isPlaced says whether the record says more than which stream it is of.
func (r *Record) isPlaced() bool { return r.Number > 0 || r.names() }

// Judge compares a record with the head of its stream, nil if the stream is not
// known.
func Judge(head *Head, r *Record) Finding {
	switch {
	case r.Malformed:
		return Malformed
	case r.StreamID == "":
		return Ambiguous
	case head == nil && (r.Number > 1 || r.names()):
		return Joined
	case head == nil:
		return ""
	case r.Sent == head.Sent:
		return Repeat
	case head.Ended:
		return AfterEnd
	case head.Key != Digest{} && r.Key != head.Key:
		return KeyChange
	case !r.isPlaced() && head.Linked:
		return Fork
	case !r.isPlaced() && head.Number > 0:
		return Ambiguous
	}
	found := judgeOrder(&head.Point, r)
	if (found == Gap || found == Broken) && follows(&head.Unproven, r) {
		return Unproven
	}
	return found
}

func judgeOrder(head *Point, r *Record) Finding {
	first := r.Number <= 1 && !r.names()
	if r.Number > 0 && head.Number > 0 {
		switch {
		case r.Number == head.Number || first:
			return Fork
		case r.Number < head.Number:
			return OutOfOrder
		case r.Number-head.Number > 1:
			return Gap
		}
	}
	if r.Previous != (Digest{}) && r.Previous != head.Sent && r.Previous != head.Stored ||
		r.PreviousID != (Digest{}) && r.PreviousID != head.ID {
		return Broken
	}
	return ""
}

// follows says whether a record is the next one behind a point, by what it says
// itself.
func follows(p *Point, r *Record) bool {
	return *p != Point{} && r.isPlaced() && judgeOrder(p, r) == ""
}

// Next is the head after a record, and whether it has moved: what repeats, or
// has no place of its own, moves nothing. A record that came before, and is no
// news, moves the head only by one step: it may be that the head was not kept,
// but it is never set back.
func Next(head *Head, r *Record, f Finding, before func() bool) (next Head, moved bool) {
	switch f {
	case "", Joined, Gap, Broken, Unproven:
	default:
		return Head{}, false
	}
	step := f == Unproven || f == "" && (head == nil || r.isPlaced())
	if !step && before() {
		return Head{}, false
	}
	next = Head{Point: Point{Number: r.Number, Sent: r.Sent, ID: r.ID}, Key: r.Key, Linked: r.names(), Ended: r.End}
	if head != nil {
		next.Linked = next.Linked || head.Linked
		if r.Number == 0 {
			next.Number = head.Number
		}
		if head.Unproven.Number > next.Number {
			next.Unproven = head.Unproven
		}
	}
	if r.NextKey != (Digest{}) {
		next.Key = r.NextKey
	}
	return next, true
}

// Pass is the head after a record whose proof failed, and whether that is
// another: the record moves nothing, but the next one that is proven may follow
// it.
func Pass(head *Head, r *Record) (next Head, noted bool) {
	if head == nil || head.Ended || r.Malformed || !follows(&head.Point, r) && !follows(&head.Unproven, r) {
		return Head{}, false
	}
	next = *head
	next.Unproven = Point{Number: r.Number, Sent: r.Sent, ID: r.ID}
	return next, true
}
