// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package pgsink

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/auditexporter/internal/sink/sinktest"
	"github.com/otelaudit/otelaudit/internal/pgtest"
	"github.com/otelaudit/otelaudit/internal/postgres"
)

var (
	benchBatch  = flag.Int("bench-batch", 2048, "records of a batch, which is one transaction")
	benchRounds = flag.Int("bench-rounds", 31, "batches that each way of writing stores")
	benchRows   = flag.Int("bench-rows", 100_000, "rows that the usual queries search")
)

// usual seals an event as applications send them, of about 1 KiB.
func usual(t testing.TB, m *sinktest.Maker, n int, at time.Time) sink.Entry {
	return m.Seal(t, fmt.Sprintf("tenant:t-%d", n%50), func(resource plog.ResourceLogs, record plog.LogRecord) {
		r := resource.Resource().Attributes()
		r.PutStr(audit.ResourceServiceName, "billing")
		r.PutStr(audit.ResourceHostName, "billing-7f9c6d5b4-x2x9z")
		r.PutStr(audit.ResourceEnvironment, "production")
		record.SetEventName([]string{"invoice.viewed", "invoice.paid", "user.login", "report.exported"}[n%4])
		if n%97 == 0 {
			record.SetEventName("role.granted")
		}
		record.SetTimestamp(pcommon.NewTimestampFromTime(at))
		record.SetObservedTimestamp(pcommon.NewTimestampFromTime(at.Add(time.Millisecond)))
		a := record.Attributes()
		a.PutStr(audit.AttributeRecordID, fmt.Sprintf("018f%04x-%04x-7%03x-8abc-%012x", n>>16, n&0xffff, n&0xfff, n))
		a.PutStr(audit.AttributeAction, "VIEWED")
		a.PutStr(audit.AttributeOutcome, "success")
		a.PutStr(audit.AttributeActorType, "user")
		a.PutStr(audit.AttributeActorID, fmt.Sprintf("user-%d", n*7919%10007))
		a.PutStr(audit.AttributeActorName, "Ada Lovelace")
		roles := a.PutEmptySlice(audit.AttributeActorRoles)
		roles.AppendEmpty().SetStr("accountant")
		roles.AppendEmpty().SetStr("approver")
		a.PutStr(audit.AttributeClientAddress, "203.0.113.7")
		a.PutStr(audit.AttributeUserAgent, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
		a.PutStr(audit.AttributeTargetType, "invoice")
		a.PutStr(audit.AttributeTargetID, fmt.Sprintf("inv-%d", n))
		a.PutStr(audit.AttributeTenantID, fmt.Sprintf("t-%d", n%50))
		a.PutStr(audit.AttributeRequestID, fmt.Sprintf("req-%d", n))
		metadata := a.PutEmptyMap(audit.AttributeMetadata)
		metadata.PutStr("path", "/v2/invoices/4711")
		metadata.PutInt("durationMs", int64(n%900))
		metadata.PutBool("viaApi", true)
		diff := a.PutEmptyMap(audit.AttributeDiff)
		diff.PutEmptyMap("before").PutStr("state", "open")
		diff.PutEmptyMap("after").PutStr("state", "paid")
		a.PutStr(audit.AttributeCollectorTenant, fmt.Sprintf("t-%d", n%50))
	})
}

// BenchmarkBesidePlain stores the same batches in three ways, in turn, each into
// tables of its own with the same columns, indexes and partitions, over one
// connection: this sink; INSERT of 100 rows with ON CONFLICT DO NOTHING; and
// COPY into a temporary table with INSERT … SELECT … ON CONFLICT DO NOTHING. The
// other two get their values ready made and have no trigger. Reported are the
// medians. Run it with -benchtime 1x.
func BenchmarkBesidePlain(b *testing.B) {
	dsn := pgtest.Database(b)
	ways := []struct {
		name  string
		store func([]sink.Entry, [][]any) error
		rates []float64
	}{
		{name: "sink", store: sinkWay(b, dsn)},
		{name: "insert", store: plainWay(b, dsn, "plain_insert", insertHundreds)},
		{name: "staging", store: plainWay(b, dsn, "plain_staging", copyThroughStaging)},
	}
	m := sinktest.NewMaker(sinktest.Origin)
	start := time.Now().Add(-time.Hour)
	for round := range *benchRounds {
		batch := make([]sink.Entry, *benchBatch)
		values := make([][]any, len(batch))
		for i := range batch {
			n := round*len(batch) + i
			batch[i] = usual(b, m, n, start.Add(time.Duration(n)*time.Millisecond))
			values[i] = plainValues(b, &batch[i])
		}
		for i := range ways {
			way := &ways[(i+round)%len(ways)]
			began := time.Now()
			require.NoError(b, way.store(batch, values), way.name)
			if round > 0 { // the first one makes statements, caches and partitions
				way.rates = append(way.rates, float64(len(batch))/time.Since(began).Seconds())
			}
		}
	}
	medians := map[string]float64{}
	for _, way := range ways {
		slices.Sort(way.rates)
		medians[way.name] = way.rates[len(way.rates)/2]
		b.ReportMetric(medians[way.name], way.name+"-rows/s")
	}
	b.ReportMetric(medians["sink"]/medians["insert"], "sink/insert")
	b.ReportMetric(medians["sink"]/medians["staging"], "sink/staging")
	b.ReportMetric(0, "ns/op")
}

func sinkWay(b *testing.B, dsn string) func([]sink.Entry, [][]any) error {
	config := testConfig(b, dsn)
	config.MaxConnections = 1
	s := open(b, config)
	return func(batch []sink.Entry, _ [][]any) error {
		result, err := s.Write(b.Context(), batch, noRefusal)
		if err == nil && result.Stored != len(batch) {
			return fmt.Errorf("stored %d of %d", result.Stored, len(batch))
		}
		return err
	}
}

func plainWay(b *testing.B, dsn, name string, store func(context.Context, pgx.Tx, string, [][]any) error) func([]sink.Entry, [][]any) error {
	table, err := postgres.ParseTable(name)
	require.NoError(b, err)
	run(b, dsn, table.Schema(), "DROP TRIGGER "+name+"_once ON "+table.Events())
	now := monthOf(time.Now())
	for _, m := range []month{now - 1, now, now + 1} {
		run(b, dsn, "SELECT "+table.PartitionFunction()+"('"+m.first().Format(time.DateOnly)+"')")
	}
	conn := connect(b, dsn)
	return func(_ []sink.Entry, values [][]any) error {
		return pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error { return store(b.Context(), tx, table.Events(), values) })
	}
}

func insertHundreds(ctx context.Context, tx pgx.Tx, table string, rows [][]any) error {
	columns := postgres.Columns()
	for chunk := range slices.Chunk(rows, 100) {
		var statement strings.Builder
		fmt.Fprintf(&statement, "INSERT INTO %s (%s) VALUES ", table, strings.Join(columns, ", "))
		arguments := make([]any, 0, len(chunk)*len(columns))
		for i, row := range chunk {
			if i > 0 {
				statement.WriteByte(',')
			}
			for k := range row {
				statement.WriteString(map[bool]string{true: "(", false: ","}[k == 0])
				fmt.Fprintf(&statement, "$%d", len(arguments)+k+1)
			}
			statement.WriteByte(')')
			arguments = append(arguments, row...)
		}
		statement.WriteString(" ON CONFLICT DO NOTHING")
		if _, err := tx.Exec(ctx, statement.String(), arguments...); err != nil {
			return err
		}
	}
	return nil
}

func copyThroughStaging(ctx context.Context, tx pgx.Tx, table string, rows [][]any) error {
	const staging = "staging"
	columns := postgres.Columns()
	if _, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE "+staging+" (LIKE "+table+") ON COMMIT DROP"); err != nil {
		return err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{staging}, columns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	list := strings.Join(columns, ", ")
	_, err := tx.Exec(ctx, "INSERT INTO "+table+" ("+list+") SELECT "+list+" FROM "+staging+" ON CONFLICT DO NOTHING")
	return err
}

// plainValues returns the row of an entry as a program would hand it to pgx.
func plainValues(t testing.TB, e *sink.Entry) []any {
	var deriver postgres.Deriver
	row := deriver.Derive(e.Resource.Resource(), e.Record, &e.Link, e.Hash, e.Event)
	values := make([]any, 0, len(postgres.Columns()))
	for _, name := range postgres.Columns() {
		text, ok := row.Column(name)
		switch name {
		case "origin":
			values = append(values, e.Link.Origin)
		case "index":
			values = append(values, int64(e.Link.Index))
		case "stream":
			values = append(values, e.Link.Stream)
		case "seq":
			values = append(values, int64(e.Link.Seq))
		case "sealed_at":
			values = append(values, e.Link.SealedAt)
		case "prev":
			values = append(values, e.Link.Prev[:])
		case "hash":
			values = append(values, e.Hash[:])
		case "canonical":
			values = append(values, e.Event)
		case "occurred_at":
			values = append(values, row.OccurredAt())
		case "occurred_at_nanoseconds":
			values = append(values, row.OccurredAt().UnixNano())
		case "actor_roles":
			var roles []string
			if ok {
				require.NoError(t, json.Unmarshal([]byte(text), &roles))
			}
			values = append(values, roles)
		case "target", "context", "metadata", "diff", "integrity", "attributes", "resource", "message":
			values = append(values, map[bool]any{true: json.RawMessage(text), false: nil}[ok])
		default:
			values = append(values, map[bool]any{true: text, false: nil}[ok])
		}
	}
	return values
}

// BenchmarkUsualQueries stores rows over 90 days, and prints how the three usual
// queries find theirs. Run it with -benchtime 1x.
func BenchmarkUsualQueries(b *testing.B) {
	dsn := pgtest.Database(b)
	s := open(b, testConfig(b, dsn))
	m := sinktest.NewMaker(sinktest.Origin)
	const days = 90
	start := time.Now().AddDate(0, 0, -days)
	var writing time.Duration
	for n := 0; n < *benchRows; {
		batch := make([]sink.Entry, min(*benchBatch, *benchRows-n))
		for i := range batch {
			batch[i] = usual(b, m, n, start.Add(days*24*time.Hour/time.Duration(*benchRows)*time.Duration(n)))
			n++
		}
		began := time.Now()
		write(b, s, batch...)
		writing += time.Since(began)
	}
	b.ReportMetric(float64(*benchRows)/writing.Seconds(), "rows/s")
	b.ReportMetric(float64(one[int64](b, dsn, "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"))/
		float64(*benchRows), "bytes/row")
	run(b, dsn, "VACUUM ANALYSE audit_events")
	for name, plan := range explain(b, dsn) {
		fmt.Printf("\n%s and time\n%s\n", name, plan) // b.Log would cut it
		require.NotContains(b, plan, "Seq Scan", name)
	}
	began := time.Now()
	require.Len(b, stored(b, dsn), *benchRows)
	b.ReportMetric(float64(*benchRows)/time.Since(began).Seconds(), "read-rows/s")
	b.ReportMetric(0, "ns/op")
}
