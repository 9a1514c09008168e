// Checks clickhouse-go against the local ClickHouse server, over HTTP:
//
//	METERFOLD_CLICKHOUSE_URL=http://127.0.0.1:8123 METERFOLD_CLICKHOUSE_PASSWORD=... go run .
//
// It connects once without compression, the default, and once with each kind, and exits with 1 at the first difference.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"
)

var ctx = context.Background()

func main() {
	for name, method := range map[string]clickhouse.CompressionMethod{
		"default": clickhouse.CompressionNone,
		"lz4":     clickhouse.CompressionLZ4,
		"zstd":    clickhouse.CompressionZSTD,
		"gzip":    clickhouse.CompressionGZIP,
	} {
		if err := check(name, method); err != nil {
			fmt.Printf("clickhouse-go, %s: %v\n", name, err)
			os.Exit(1)
		}
		fmt.Printf("clickhouse-go, %s: ok\n", name)
	}
}

func check(name string, method clickhouse.CompressionMethod) error {
	connection, err := connect(method)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.Ping(ctx); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	var one uint8
	if err := connection.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil || one != 1 {
		return fmt.Errorf("SELECT 1: %d, %w", one, err)
	}
	table := "clients_go_" + name
	for _, statement := range []string{
		"DROP TABLE IF EXISTS " + table,
		"CREATE TABLE " + table + " (id UInt64, quantity Decimal(38, 9), time DateTime64(6, 'UTC'), " +
			"note Nullable(String), labels Map(String, String), kind LowCardinality(String), parts Array(Tuple(a String, b UInt8))) " +
			"ENGINE = MergeTree ORDER BY id",
	} {
		if err := connection.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	rows := sample(3000)
	batch, err := connection.PrepareBatch(ctx, "INSERT INTO "+table)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	for _, row := range rows {
		if err := batch.Append(row.ID, row.Quantity, row.Time, row.Note, row.Labels, row.Kind, []any{[]any{row.Kind, uint8(row.ID)}}); err != nil {
			return fmt.Errorf("append: %w", err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := compare(connection, table, rows); err != nil {
		return err
	}
	return failures(connection, table)
}

func connect(method clickhouse.CompressionMethod) (driver.Conn, error) {
	server, err := url.Parse(os.Getenv("METERFOLD_CLICKHOUSE_URL"))
	if err != nil {
		return nil, err
	}
	options := &clickhouse.Options{
		Addr:     []string{server.Host},
		Protocol: clickhouse.HTTP,
		Auth:     clickhouse.Auth{Database: "default", Username: "default", Password: os.Getenv("METERFOLD_CLICKHOUSE_PASSWORD")},
	}
	if method != clickhouse.CompressionNone {
		options.Compression = &clickhouse.Compression{Method: method}
	}
	return clickhouse.Open(options)
}

type sampleRow struct {
	ID       uint64
	Quantity decimal.Decimal
	Time     time.Time
	Note     *string
	Labels   map[string]string
	Kind     string
}

func sample(count int) []sampleRow {
	rows := make([]sampleRow, count)
	for n := range rows {
		row := sampleRow{
			ID:       uint64(n),
			Quantity: decimal.RequireFromString("12345678901234567890.123456789").Sub(decimal.NewFromInt(int64(n))),
			Time:     time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC).Add(time.Duration(n) * time.Microsecond),
			Labels:   map[string]string{},
			Kind:     fmt.Sprintf("kind-%d", n%7),
		}
		if n%3 != 0 {
			note := fmt.Sprintf("note ä %d", n)
			row.Note = &note
		}
		for label := range n % 4 {
			row.Labels[fmt.Sprintf("k%d", label)] = fmt.Sprintf("v%d", n)
		}
		rows[n] = row
	}
	return rows
}

func compare(connection driver.Conn, table string, expected []sampleRow) error {
	found, err := connection.Query(ctx, "SELECT id, quantity, time, note, labels, kind, parts.a[1], parts FROM "+table+" ORDER BY id")
	if err != nil {
		return fmt.Errorf("select: %w", err)
	}
	defer found.Close()
	count := 0
	for found.Next() {
		var row sampleRow
		var part string
		var parts []map[string]any
		if err := found.Scan(&row.ID, &row.Quantity, &row.Time, &row.Note, &row.Labels, &row.Kind, &part, &parts); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		want := expected[count]
		if !row.Quantity.Equal(want.Quantity) || !row.Time.Equal(want.Time) || !reflect.DeepEqual(row.Note, want.Note) ||
			!reflect.DeepEqual(row.Labels, want.Labels) || row.ID != want.ID || row.Kind != want.Kind || part != want.Kind ||
			!reflect.DeepEqual(parts, []map[string]any{{"a": want.Kind, "b": uint8(want.ID)}}) {
			return fmt.Errorf("row %d: found %+v %v, expected %+v", count, row, parts, want)
		}
		count++
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	if count != len(expected) {
		return fmt.Errorf("%d rows instead of %d", count, len(expected))
	}
	var sum uint64
	if err := connection.QueryRow(ctx, "SELECT sum(length(toString(number))) FROM numbers(500000)").Scan(&sum); err != nil || sum != 2888890 {
		return fmt.Errorf("sum: %d, %w", sum, err)
	}
	large, err := connection.Query(ctx, "SELECT toString(number) FROM numbers(500000)")
	if err != nil {
		return err
	}
	defer large.Close()
	length := 0
	for large.Next() {
		var text string
		if err := large.Scan(&text); err != nil {
			return err
		}
		length += len(text)
	}
	if large.Err() != nil || length != 2888890 {
		return fmt.Errorf("a large result: %d characters, %w", length, large.Err())
	}
	return nil
}

func failures(connection driver.Conn, table string) error {
	for statement, code := range map[string]int32{
		"SELECT * FROM no_such_table": 60,
		"SELEC 1":                     62,
		"INSERT INTO " + table + " (id) VALUES ('x')": 6,
	} {
		var exception *clickhouse.Exception
		if err := connection.Exec(ctx, statement); !errors.As(err, &exception) || exception.Code != code {
			return fmt.Errorf("%s: %v instead of code %d", statement, err, code)
		}
	}
	rows, err := connection.Query(ctx, "SELECT * FROM no_such_table")
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) || exception.Code != 60 {
		return fmt.Errorf("query: %v, %v instead of code 60", rows, err)
	}
	// The error comes after the first blocks were sent.
	late, err := connection.Query(ctx, "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000")
	if err == nil {
		for late.Next() {
		}
		err = late.Err()
	}
	if !errors.As(err, &exception) || exception.Code != 395 {
		return fmt.Errorf("late failure: %v instead of code 395", err)
	}
	return nil
}
