// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal keeps sealed records on disk from the moment they are
// acknowledged until they are delivered.
//
// # Directory
//
//	id                        instance and journal id, made once
//	lock                      held by the one process that uses the journal
//	cursor                    number of the newest delivered frame
//	reserve                   room on the disk that is given up when there is none left
//	<20-digit number>.segment frames, named by the number of the first
//	<20-digit number>.ids     ids of the records in frames from that number on
//
// # Frames
//
// A segment is a sequence of frames. Numbers are big endian, names have a
// uint16 length in front:
//
//	magic "oaf2" | kind u8 | number u64 | salt u64 | length u32 | CRC-32C u32 | payload [length]
//
// The checksum covers kind, number, salt, length and payload. Frame numbers
// start at 1 and are dense over all segments; frame n+1 is written only after n
// is durable. The salt is drawn with each segment and is in all its frames: who
// chooses a payload cannot put a frame into it that recovery would believe. The
// kinds:
//
//	state 1       previous segment u64 | its accepted length u64 |
//	              origin | ended u8 | size u64 | range count u8, hashes |
//	              heads u32: stream, seq u64, hash, in the order of the streams
//	group 2       record kind u8 | records u32 | payload bytes u64 | origin | first index u64 | sealed_at i64 |
//	              requests u32: records u32: stream, seq u64, prev, digest, hash, identity; payload u32-length
//	checkpoint 3  origin | size u64 | range count u8, hashes | note u32-length
//
// An identity is 0 u8, or 1 u8 | id [16] | fingerprint [16] | integrity hash.
//
// A group is what one fsync made durable: whole requests, their records in
// order. Each segment begins with a state frame: all that sealing needs to go
// on, so older segments can go once they are delivered.
//
// # Ids
//
// A record that came with an id has an identity: a keyed hash of the id and its
// scope, and one of its content. The writer looks each up before it seals: a
// record that came before is not sealed again. Ids are durable with their group,
// because they are in its frame. From there they go to files: 1 in 131,072
// records or so a whole new one, sorted; and before a segment goes, the ids of
// its frames are in a file as well, which grows by being replaced. idTable.encode
// has the format. In memory are the ids that are in no full file yet, and two
// bytes an id of filters, turned so that one look asks 64 files. Ids leave when they are older than the
// window, whole files above the quota, oldest first.
//
// # Recovery
//
// Each segment but the last ends at the length that its successor's state
// frame names; what stands behind it failed to be written and was never
// acknowledged. In the last segment a bad frame is a torn tail if no valid
// frame with a later number stands behind it. Anything else is corruption, and
// Open refuses. The last segment is written and synced anew before anything is
// built on it, unless all of it was delivered.
//
// # Assumptions
//
// fsync returns nil only when the data is on stable storage; a rename is
// atomic; a directory fsync makes created and renamed entries durable; a failed
// fsync says nothing about what was written: the file is cut to what was
// accepted and not written to again.
package journal
