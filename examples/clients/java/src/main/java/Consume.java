import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Follows aggregates and exceeded thresholds: Consume SCHEMAS COUNT prints that many events as JSON and stops. */
public final class Consume {
    public static void main(String[] args) throws Exception {
        String prefix = Connection.PREFIX;
        Map<String, BinaryMessageDecoder<GenericRecord>> decoders = Map.of(
                prefix + "usage.aggregated", decoder(new File(args[0], "avro/usage_aggregated.v1.avsc")),
                prefix + "threshold.exceeded", decoder(new File(args[0], "avro/threshold_exceeded.v1.avsc")));

        Properties settings = Connection.settings();
        settings.put("group.id", prefix + "example-java");
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        ObjectMapper json = new ObjectMapper();
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        int left = Integer.parseInt(args[1]);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(decoders.keySet());
            Map<TopicPartition, OffsetAndMetadata> handled = new HashMap<>();
            while (left > 0) {
                for (ConsumerRecord<byte[], byte[]> message : consumer.poll(Duration.ofSeconds(1))) {
                    if (left == 0) {
                        break; // a poll may bring more than is wanted: those are not committed
                    }
                    handled.put(
                            new TopicPartition(message.topic(), message.partition()),
                            new OffsetAndMetadata(message.offset() + 1));
                    if (message.value() == null) {
                        continue; // a tombstone: the window is no longer kept
                    }
                    // decode throws MissingSchemaException for the header of a newer version
                    GenericRecord event = decoders.get(message.topic()).decode(message.value());
                    Map<String, Object> fields = new LinkedHashMap<>();
                    fields.put("topic", message.topic().substring(prefix.length()));
                    fields.put("ce_id", new String(message.headers().lastHeader("ce_id").value(), StandardCharsets.UTF_8));
                    for (Schema.Field field : event.getSchema().getFields()) {
                        fields.put(field.name(), readable(event.get(field.pos())));
                    }
                    out.println(json.writeValueAsString(fields));
                    left--;
                }
                consumer.commitSync(handled); // after the events are handled; event_id tells a repeat
            }
        }
        out.flush();
    }

    private static BinaryMessageDecoder<GenericRecord> decoder(File schema) throws Exception {
        GenericData model = new GenericData();
        model.addLogicalTypeConversion(new Conversions.DecimalConversion());
        return new BinaryMessageDecoder<>(model, new Schema.Parser().parse(schema));
    }

    private static Object readable(Object value) {
        if (value instanceof BigDecimal number) {
            return number.toPlainString();
        }
        return value instanceof CharSequence ? value.toString() : value;
    }
}
