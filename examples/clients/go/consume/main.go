// Follows aggregates and exceeded thresholds: go run ./consume SCHEMAS COUNT prints that many events as JSON and stops.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"meterfold/examples/clients/connection"
)

// Some of the fields of each event; Avro skips those that a struct lacks.
type window struct {
	EventID     string `avro:"event_id"`
	OrgID       string `avro:"org_id"`
	MetricKey   string `avro:"metric_key"`
	SubjectType string `avro:"subject_type"`
	SubjectID   string `avro:"subject_id"`
	PeriodType  string `avro:"period_type"`
	PeriodStart int64  `avro:"period_start"` // microseconds: time.UnixMicro(...)
	PeriodEnd   *int64 `avro:"period_end"`
}

type aggregated struct {
	window
	Total    []byte `avro:"total_quantity"`
	Revision int64  `avro:"revision"`
	IsFinal  bool   `avro:"is_final"`
}

type exceeded struct {
	window
	Level       string `avro:"level"`
	Threshold   []byte `avro:"threshold"`
	ActualValue []byte `avro:"actual_value"`
}

// An Avro decimal of scale 9, which may have 38 digits.
func decimal(bytes []byte) *big.Rat {
	unscaled := new(big.Int).SetBytes(bytes)
	if len(bytes) > 0 && bytes[0]&0x80 != 0 {
		unscaled.Sub(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*len(bytes))))
	}
	return new(big.Rat).SetFrac(unscaled, big.NewInt(1_000_000_000))
}

func (w window) fields(more map[string]any) map[string]any {
	more["event_id"], more["org_id"], more["metric_key"] = w.EventID, w.OrgID, w.MetricKey
	more["subject_type"], more["subject_id"] = w.SubjectType, w.SubjectID
	more["period_type"], more["period_start"], more["period_end"] = w.PeriodType, w.PeriodStart, w.PeriodEnd
	return more
}

type decoder struct {
	schema avro.Schema
	header []byte
}

func main() {
	schemas, prefix := os.Args[1], connection.Prefix
	left := must(strconv.Atoi(os.Args[2]))
	var headers map[string]string
	check(json.Unmarshal(must(os.ReadFile(filepath.Join(schemas, "avro/headers.json"))), &headers))
	decoders := map[string]decoder{}
	for topic, label := range map[string]string{
		"usage.aggregated":   "usage_aggregated.v1",
		"threshold.exceeded": "threshold_exceeded.v1",
	} {
		text := must(os.ReadFile(filepath.Join(schemas, "avro/plain", label+".avsc")))
		decoders[prefix+topic] = decoder{avro.MustParse(string(text)), must(hex.DecodeString(headers[label]))}
	}
	client := must(kgo.NewClient(connection.Options(
		kgo.ConsumerGroup(prefix+"example-go"),
		kgo.ConsumeTopics(prefix+"usage.aggregated", prefix+"threshold.exceeded"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DisableAutoCommit(),
	)...))
	defer client.Close()
	for left > 0 {
		fetches := client.PollRecords(context.Background(), left)
		for _, failed := range fetches.Errors() {
			log.Fatal(failed.Err)
		}
		fetches.EachRecord(func(message *kgo.Record) {
			if message.Value == nil {
				return // a tombstone: the window is no longer kept
			}
			with := decoders[message.Topic]
			// Another header is another version of the schema: stop or skip, but never decode it with this one.
			if !bytes.HasPrefix(message.Value, with.header) {
				log.Fatalf("%s has another schema; update the schemas", message.Topic)
			}
			body, topic := message.Value[len(with.header):], strings.TrimPrefix(message.Topic, prefix)
			var event map[string]any
			if topic == "usage.aggregated" {
				var found aggregated
				check(avro.Unmarshal(with.schema, body, &found))
				event = found.fields(map[string]any{
					"total_quantity": decimal(found.Total).FloatString(9), "revision": found.Revision, "is_final": found.IsFinal,
				})
			} else {
				var found exceeded
				check(avro.Unmarshal(with.schema, body, &found))
				event = found.fields(map[string]any{
					"level": found.Level, "threshold": decimal(found.Threshold).FloatString(9),
					"actual_value": decimal(found.ActualValue).FloatString(9),
				})
			}
			event["topic"], event["ce_id"] = topic, header(message, "ce_id")
			fmt.Println(string(must(json.Marshal(event))))
			left--
		})
		check(client.CommitUncommittedOffsets(context.Background())) // after the events are handled
	}
}

func header(message *kgo.Record, name string) string {
	for _, header := range message.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
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
