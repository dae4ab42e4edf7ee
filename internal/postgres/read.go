// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// Reader reads a store. Not for concurrent use.
type Reader struct {
	conn  *pgx.Conn
	table Table
}

// OpenReader connects and checks that the tables are those of this version. dsn
// is a URL or key=value pairs, as libpq takes them; what it leaves out comes
// from libpq's environment variables. Errors hold neither password nor content.
func OpenReader(ctx context.Context, dsn string, table Table) (*Reader, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, ErrDSN
	}
	SpeakUTF8(&config.Config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", Clean(err))
	}
	r := &Reader{conn: conn, table: table}
	if err := table.CheckVersion(ctx, conn); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// SpeakUTF8 has the server take and give text as it is, whatever else is set for
// the user or the database: else it would convert, and text would seem changed.
func SpeakUTF8(config *pgconn.Config) { config.RuntimeParams["client_encoding"] = "UTF8" }

// Close ends the connection.
func (r *Reader) Close() error { return r.conn.Close(context.Background()) }

// Stored is one thing that is stored, as Reader.Lines reads it. It is valid
// until the next one.
type Stored struct {
	Kind   audit.LineKind
	Table  string // where it is stored
	Origin string
	Index  uint64 // of a checkpoint its size
	// Line is the stored line, without newline, as a file would hold it. What
	// has no such line, because its columns are not of the right length, has
	// one that is malformed.
	Line []byte
	// Column is the first derived column that does not show what the canonical
	// bytes, or the note of a checkpoint, say, "" if all do. Such a row was
	// tampered with.
	Column string
}

// malformed is the line of what has none.
var malformed = []byte(`{"malformed":"a column of the row has the wrong length"}`)

// fetchRows is how many rows are held at once.
const fetchRows = 128

// Lines calls visit with all that is stored, from one snapshot, in the order of
// origin (bytewise) and index: the checkpoint of size n before the record with
// index n, a stub before the record that supersedes it. An error of visit ends
// it and is returned. Memory is that of some hundred rows.
func (r *Reader) Lines(ctx context.Context, visit func(*Stored) error) error {
	var visitErr error
	err := r.snapshot(ctx, func(tx pgx.Tx) error {
		visitErr = r.merge(ctx, tx, visit)
		return visitErr
	})
	if visitErr != nil && errors.Is(err, visitErr) {
		return visitErr
	}
	return Clean(err)
}

// snapshot runs read in a transaction that sees one state, all of it, and reads
// by index. Where policies hide rows from this user reading fails.
func (r *Reader) snapshot(ctx context.Context, read func(pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, r.conn, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_sort', 'off', true),"+
			" pg_catalog.set_config('row_security', 'off', true)"); err != nil {
			return err
		}
		for _, name := range []string{r.table.Events(), r.table.Stubs(), r.table.Checkpoints()} {
			if err := checkTable(ctx, tx, name); err != nil {
				return err
			}
		}
		return read(tx)
	})
}

// ErrNotTable says that something stands where a table should, such as a view.
var ErrNotTable = errors.New("is no table: what it shows may be something else each time")

// checkTable refuses views: their code would run with our rights, and could show
// us what it shows nobody else. That a table is not there is seen where it is
// read.
func checkTable(ctx context.Context, tx pgx.Tx, name string) error {
	var odd bool
	err := tx.QueryRow(ctx, "SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)", name).Scan(&odd)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", name, Clean(err))
	case odd:
		return fmt.Errorf("%s %w", name, ErrNotTable)
	}
	return nil
}

// merge reads the three tables side by side.
func (r *Reader) merge(ctx context.Context, tx pgx.Tx, visit func(*Stored) error) error {
	feeds := []*feed{
		{
			name: "checkpoints", table: r.table.name + "_checkpoints", columns: "origin, size, note, range",
			from: r.table.Checkpoints(), order: "origin, size", decode: decodeCheckpoint,
		},
		{
			name: "stubs", table: r.table.name + "_stubs", columns: "origin, index, stream, seq, sealed_at, prev, hash, digest",
			from: r.table.Stubs(), order: "origin, index", decode: decodeStub,
		},
		{
			name: "events", table: r.table.name, columns: columnList,
			from: r.table.Events(), order: "origin, index, occurred_at", decode: newEventDecoder(),
		},
	}
	for _, f := range feeds {
		if err := f.declare(ctx, tx); err != nil {
			return err
		}
	}
	for {
		var first *feed
		for _, f := range feeds {
			if err := f.fill(ctx, tx); err != nil {
				return err
			}
			if len(f.held) > 0 && (first == nil || f.held[0].before(&first.held[0])) {
				first = f
			}
		}
		if first == nil {
			return nil
		}
		stored := &first.held[0]
		first.held = first.held[1:]
		if err := visit(stored); err != nil {
			return err
		}
	}
}

func (s *Stored) before(other *Stored) bool {
	if s.Origin != other.Origin {
		return s.Origin < other.Origin
	}
	return int64(s.Index) < int64(other.Index) // as the database orders them
}

// feed is one table that is read in order, through a cursor of the database.
type feed struct {
	name, table          string
	columns, from, order string
	decode               func(raw [][]byte, s *Stored)
	held                 []Stored // read and not yet visited
	done                 bool
}

func (f *feed) declare(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, fmt.Sprintf("DECLARE %s NO SCROLL CURSOR FOR SELECT %s FROM %s ORDER BY %s", f.name, f.columns, f.from, f.order))
	if err != nil {
		return fmt.Errorf("read table %s: %w", f.table, Clean(err))
	}
	return nil
}

func (f *feed) fill(ctx context.Context, tx pgx.Tx) error {
	if f.done || len(f.held) > 0 {
		return nil
	}
	rows, err := tx.Query(ctx, fmt.Sprintf("FETCH %d FROM %s", fetchRows, f.name), pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return fmt.Errorf("read table %s: %w", f.table, Clean(err))
	}
	defer rows.Close()
	f.held = make([]Stored, 0, fetchRows)
	for rows.Next() {
		s := Stored{Table: f.table}
		f.decode(rows.RawValues(), &s)
		f.held = append(f.held, s)
	}
	f.done = len(f.held) == 0
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read table %s: %w", f.table, Clean(err))
	}
	return nil
}

func decodeCheckpoint(raw [][]byte, s *Stored) {
	s.Kind, s.Origin, s.Index = audit.LineCheckpoint, string(raw[0]), uint64(decodeInt64(raw[1]))
	elements, ok := decodeArray(raw[3])
	hashes := make([]chain.Hash, len(elements))
	for i := range elements {
		ok = decodeHash(elements[i], &hashes[i]) && ok
	}
	if s.Line = malformed; ok {
		s.Line = audit.AppendCheckpoint(nil, raw[2], hashes)
	}
	if note, err := chain.ParseCheckpoint(raw[2]); err == nil {
		s.Column = checkpointDifference(s, &note)
	}
}

// checkpointDifference returns the name of the column that does not show what
// the note says, "" if both do.
func checkpointDifference(s *Stored, note *chain.Checkpoint) string {
	switch {
	case s.Origin != note.Origin:
		return "origin"
	case s.Index != note.Size:
		return "size"
	default:
		return ""
	}
}

func decodeStub(raw [][]byte, s *Stored) {
	s.Kind = audit.LineStub
	link, hash, ok := decodeLink(raw)
	ok = decodeHash(raw[7], &link.Digest) && ok
	s.Origin, s.Index = link.Origin, link.Index
	if s.Line = malformed; ok {
		s.Line = audit.AppendStub(nil, &link, hash)
	}
}

// decodeLink reads origin, index, stream, seq, sealed_at, prev and hash.
func decodeLink(raw [][]byte) (link chain.Link, hash chain.Hash, ok bool) {
	link = chain.Link{
		Origin: string(raw[0]), Index: uint64(decodeInt64(raw[1])), Stream: unescapeStream(string(raw[2])),
		Seq: uint64(decodeInt64(raw[3])), SealedAt: decodeInt64(raw[4]),
	}
	ok = EscapeStream(link.Stream) == string(raw[2]) // there is one spelling
	ok = decodeHash(raw[5], &link.Prev) && ok
	ok = decodeHash(raw[6], &hash) && ok
	return link, hash, ok
}

// newEventDecoder returns what decodes a row and compares what it shows with
// what its canonical bytes say.
func newEventDecoder() func([][]byte, *Stored) {
	var deriver Deriver
	var row Row
	return func(raw [][]byte, s *Stored) {
		ok := row.decode(raw)
		s.Kind, s.Origin, s.Index = audit.LineEvent, row.Link.Origin, row.Link.Index
		s.Column = row.Difference(deriver.DeriveCanonical(&row.Link, row.Hash, row.Canonical))
		if s.Line = malformed; ok {
			s.Line = row.AppendLine(nil)
		}
	}
}

// AppendLine appends the stored line of the row, without newline.
func (r *Row) AppendLine(dst []byte) []byte {
	return audit.AppendEvent(dst, &r.Link, r.Hash, r.Canonical)
}

// AppendEvent appends the row's event in JSON, from its canonical bytes.
func (r *Row) AppendEvent(dst []byte) ([]byte, error) {
	logs, err := canonical.Parse(r.Canonical)
	if err != nil {
		return dst, fmt.Errorf("origin %s, index %d: %w", r.Link.Origin, r.Link.Index, err)
	}
	group := logs.ResourceLogs().At(0)
	return audit.EncodeEvent(dst, group.Resource(), group.ScopeLogs().At(0).LogRecords().At(0)), nil
}

// decode reads binary values of Columns. It keeps none of raw. ok is false
// where a hash has not the length of one.
func (r *Row) decode(raw [][]byte) (ok bool) {
	*r = Row{}
	for i := range columns {
		r.values[i] = decodeValue(raw[i], columns[i].kind)
	}
	seal := raw[len(columns):]
	r.Link, r.Hash, ok = decodeLink(seal)
	r.Canonical = append([]byte(nil), seal[7]...)
	r.Link.Digest = sha256.Sum256(r.Canonical)
	return ok
}

// decodeValue reads a binary value. One that is not of the column's type, which
// somebody has changed then, is as if it were NULL.
func decodeValue(raw []byte, k kind) value {
	v := value{valid: true}
	switch {
	case raw == nil:
		return value{}
	case k == kindInteger && len(raw) == 4:
		v.number = int64(int32(binary.BigEndian.Uint32(raw)))
	case k == kindBoolean && len(raw) == 1:
		v.number = int64(raw[0])
	case k == kindTime && len(raw) == 8:
		v.number = decodeInt64(raw) + epochMicroseconds
	case k == kindBigint && len(raw) == 8:
		v.number = decodeInt64(raw)
	case k == kindTexts:
		v.texts, v.valid = decodeArray(raw)
	case k == kindJSON && len(raw) > 0 && raw[0] == jsonbVersion:
		v.text = append([]byte(nil), raw[1:]...)
	case k == kindText:
		v.text = append([]byte{}, raw...)
	default:
		return value{}
	}
	return v
}

func decodeInt64(raw []byte) int64 {
	if len(raw) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(raw))
}

func decodeHash(raw []byte, hash *chain.Hash) bool {
	return copy(hash[:], raw) == len(raw) && len(raw) == chain.HashSize
}

// decodeArray reads an array of one dimension without NULL whose first index is
// the usual one, 1.
func decodeArray(raw []byte) (elements [][]byte, ok bool) {
	const header, dimension = 12, 8
	if len(raw) < header {
		return nil, false
	}
	switch binary.BigEndian.Uint32(raw) {
	case 0:
		return nil, len(raw) == header
	case 1:
	default:
		return nil, false
	}
	if len(raw) < header+dimension || binary.BigEndian.Uint32(raw[header+4:]) != 1 {
		return nil, false
	}
	count := binary.BigEndian.Uint32(raw[header:])
	raw = raw[header+dimension:]
	for range count {
		if len(raw) < 4 {
			return nil, false
		}
		size := binary.BigEndian.Uint32(raw)
		if raw = raw[4:]; uint64(size) > uint64(len(raw)) { // NULL is the largest size
			return nil, false
		}
		elements = append(elements, append([]byte(nil), raw[:size]...))
		raw = raw[size:]
	}
	return elements, len(raw) == 0
}
