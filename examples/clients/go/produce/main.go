// Records usage: go run ./produce SCHEMAS EVENTS sends each line of the JSON Lines file EVENTS.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"meterfold/examples/clients/connection"
)

type usage struct {
	ID           string      `json:"id" avro:"id"`
	OrgID        string      `json:"org_id" avro:"org_id"`
	MetricKey    string      `json:"metric_key" avro:"metric_key"`
	SubjectType  string      `json:"subject_type" avro:"subject_type"`
	SubjectID    string      `json:"subject_id" avro:"subject_id"`
	Quantity     json.Number `json:"quantity" avro:"-"`
	Amount       []byte      `json:"-" avro:"quantity"`
	Source       *string     `json:"source" avro:"source"`
	ResourceType *string     `json:"resource_type" avro:"resource_type"`
	ResourceID   *string     `json:"resource_id" avro:"resource_id"`
	Metadata     *string     `json:"metadata" avro:"metadata"`
	Timestamp    int64       `json:"timestamp" avro:"timestamp"` // microseconds: time.Now().UnixMicro()
}

func main() {
	schemas := os.Args[1]
	// The schema without logical types: hamba/avro computes another fingerprint from the one with them.
	schema := avro.MustParse(string(must(os.ReadFile(filepath.Join(schemas, "avro/plain/usage_recorded.v1.avsc")))))
	var headers map[string]string
	check(json.Unmarshal(must(os.ReadFile(filepath.Join(schemas, "avro/headers.json"))), &headers))
	header := must(hex.DecodeString(headers["usage_recorded.v1"]))

	client := must(kgo.NewClient(connection.Options(
		kgo.DefaultProduceTopic(connection.Prefix+"usage.recorded"),
		kgo.RequiredAcks(kgo.AllISRAcks()),                   // the default, with idempotent writes
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // murmur2, as in Java
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
	)...))
	defer client.Close()
	var records []*kgo.Record
	lines := bufio.NewScanner(must(os.Open(os.Args[2])))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Fields usage }
		check(json.Unmarshal(lines.Bytes(), &line))
		event := line.Fields
		event.Amount = decimal(string(event.Quantity))
		value := append(header[:len(header):len(header)], must(avro.Marshal(schema, event))...)
		key := "[" + quoted(event.OrgID) + "," + quoted(event.MetricKey) + "," + quoted(event.SubjectType) + "," +
			quoted(event.SubjectID) + "]"
		records = append(records, &kgo.Record{Key: []byte(key), Value: value})
	}
	check(lines.Err())
	// An error means that the broker did not confirm an event: send it again with the same id.
	check(client.ProduceSync(context.Background(), records...).FirstErr())
	fmt.Println(len(records), "events confirmed")
}

// A JSON string with the escapes of RFC 8785. encoding/json escapes <, >, &, U+2028 and U+2029 too.
func quoted(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, c := range text {
		switch c {
		case '"', '\\':
			out.WriteString(`\` + string(c))
		case '\b':
			out.WriteString(`\b`)
		case '\t':
			out.WriteString(`\t`)
		case '\n':
			out.WriteString(`\n`)
		case '\f':
			out.WriteString(`\f`)
		case '\r':
			out.WriteString(`\r`)
		default:
			if c < 0x20 {
				fmt.Fprintf(&out, `\u%04x`, c)
			} else {
				out.WriteRune(c)
			}
		}
	}
	out.WriteByte('"')
	return out.String()
}

// Decimal text as a big-endian two's complement integer of 10^-9, in as few bytes as hold it.
func decimal(text string) []byte {
	number, ok := new(big.Rat).SetString(text)
	if !ok || !number.Mul(number, big.NewRat(1_000_000_000, 1)).IsInt() {
		log.Fatalf("quantity %s is not a number with at most 9 decimals", text)
	}
	unscaled := new(big.Int).Set(number.Num())
	magnitude := new(big.Int).Set(unscaled)
	if unscaled.Sign() < 0 {
		magnitude.Not(unscaled)
	}
	size := magnitude.BitLen()/8 + 1
	if unscaled.Sign() < 0 {
		unscaled.Add(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	return unscaled.FillBytes(make([]byte, size))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
