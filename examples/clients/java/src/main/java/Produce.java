import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Records usage: Produce SCHEMAS EVENTS sends each line of the JSON Lines file EVENTS. */
public final class Produce {
    public static void main(String[] args) throws Exception {
        Schema schema = new Schema.Parser().parse(new File(args[0], "avro/usage_recorded.v1.avsc"));
        GenericData model = new GenericData();
        model.addLogicalTypeConversion(new Conversions.DecimalConversion());
        BinaryMessageEncoder<GenericRecord> encoder = new BinaryMessageEncoder<>(model, schema);

        Properties settings = Connection.settings();
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        settings.put("compression.type", "lz4");
        String topic = Connection.PREFIX + "usage.recorded";

        ObjectMapper json = new ObjectMapper();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String line : Files.readAllLines(Path.of(args[1]))) {
                JsonNode event = json.readTree(line).get("fields");
                ByteBuffer value = encoder.encode(record(schema, event));
                byte[] bytes = new byte[value.remaining()];
                value.get(bytes);
                sent.add(producer.send(new ProducerRecord<>(topic, key(event), bytes)));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get(); // throws if the broker did not confirm the event: record it again with the same id
            }
        }
        System.out.println(sent.size() + " events confirmed");
    }

    private static GenericRecord record(Schema schema, JsonNode event) {
        GenericRecord record = new GenericData.Record(schema);
        for (String name : List.of("id", "org_id", "metric_key", "subject_type", "subject_id")) {
            record.put(name, event.get(name).asText());
        }
        for (String name : List.of("source", "resource_type", "resource_id", "metadata")) {
            record.put(name, event.hasNonNull(name) ? event.get(name).asText() : null);
        }
        record.put("quantity", new BigDecimal(event.get("quantity").asText()).setScale(9)); // throws, never rounds
        record.put("timestamp", event.get("timestamp").asLong()); // microseconds since 1970 in UTC
        return record;
    }

    /** The message key: a JSON array without spaces. Kafka's default partitioner, murmur2, places it. */
    private static byte[] key(JsonNode event) {
        return Stream.of("org_id", "metric_key", "subject_type", "subject_id")
                .map(name -> quoted(event.get(name).asText()))
                .collect(Collectors.joining(",", "[", "]"))
                .getBytes(StandardCharsets.UTF_8);
    }

    /** A JSON string with the escapes of RFC 8785. Jackson writes others. */
    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\b' -> out.append("\\b");
                case '\t' -> out.append("\\t");
                case '\n' -> out.append("\\n");
                case '\f' -> out.append("\\f");
                case '\r' -> out.append("\\r");
                default -> out.append(c < 0x20 ? String.format("\\u%04x", (int) c) : String.valueOf(c));
            }
        }
        return out.append('"').toString();
    }
}
