import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Copies the topic of changed windows to ClickHouse, in the place of a Kafka Connect sink: at least once, idempotent. */
public final class WindowSink {
  private static final int FLUSH_ROWS = 200_000;
  private static final long FLUSH_MILLIS = 1000;

  public static void main(String[] arguments) throws Exception {
    Properties settings = Settings.kafka();
    settings.put("bootstrap.servers", Settings.BOOTSTRAP);
    settings.put("group.id", Settings.GROUP + "-sink");
    settings.put("isolation.level", "read_committed");
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", false);
    settings.put("max.poll.records", 20_000);
    settings.put("max.partition.fetch.bytes", 8 << 20);
    ClickHouseRows rows = new ClickHouseRows();
    long flushed = System.currentTimeMillis();
    try (KafkaConsumer<String, byte[]> consumer =
        new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(List.of(Settings.OUTPUT));
      while (true) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(100))) {
          String name = record.key();
          int bar = name.indexOf('|', 2);
          ByteBuffer state = ByteBuffer.wrap(record.value());
          rows.add(name.substring(bar + 1), name.charAt(0) - '0', Long.parseLong(name, 2, bar, 10),
              state.getLong(), state.getLong(), state.getLong(), state.getLong());
        }
        if (rows.size() >= FLUSH_ROWS || System.currentTimeMillis() - flushed > FLUSH_MILLIS) {
          if (rows.size() > 0) {
            rows.flush();
            consumer.commitSync();
          }
          flushed = System.currentTimeMillis();
        }
      }
    }
  }
}
