// Package connection says where Kafka is, from the environment.
package connection

import (
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

var Prefix = os.Getenv("METERFOLD_KAFKA_TOPIC_PREFIX")

func Options(more ...kgo.Opt) []kgo.Opt {
	options := append(more, kgo.SeedBrokers(strings.Split(os.Getenv("METERFOLD_KAFKA_BOOTSTRAP_SERVERS"), ",")...))
	if user := os.Getenv("KAFKA_USERNAME"); user != "" { // the local stack; use TLS elsewhere (kgo.DialTLS())
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: os.Getenv("KAFKA_PASSWORD")}.AsMechanism()))
	}
	return options
}
