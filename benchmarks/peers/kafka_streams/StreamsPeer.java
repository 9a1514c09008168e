import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windows;
import org.apache.kafka.streams.kstream.internals.TimeWindow;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The windows as a Kafka Streams application: the DSL, exactly_once_v2, RocksDB stores with changelogs, a record cache
 * of 512 MiB. It writes every window that changed between two commits to a topic, which WindowSink copies to ClickHouse.
 */
public final class StreamsPeer {
  private static final Duration LATE = Duration.ofDays(31);
  private static final long DAY_MILLIS = Window.DAY * 1000;

  private static final Serde<long[]> STATE = Serdes.serdeFrom(
      (topic, state) -> {
        if (state == null) return null;
        ByteBuffer bytes = ByteBuffer.allocate(32);
        bytes.asLongBuffer().put(state);
        return bytes.array();
      },
      (topic, bytes) -> {
        if (bytes == null) return null;
        long[] state = new long[4];
        ByteBuffer.wrap(bytes).asLongBuffer().get(state);
        return state;
      });
  private static final Serde<byte[]> RAW = Serdes.ByteArray();

  /** Calendar months in UTC. */
  private static final class Months extends Windows<TimeWindow> {
    private volatile TimeWindow last = new TimeWindow(0, 1);

    @Override
    public Map<Long, TimeWindow> windowsFor(long millis) {
      TimeWindow window = last;
      if (millis < window.start() || millis >= window.end()) {
        long start = Window.monthStart(millis / 1000);
        last = window = new TimeWindow(start * 1000, Window.nextMonth(start) * 1000);
      }
      return Map.of(window.start(), window);
    }

    @Override
    public long size() {
      return 31 * DAY_MILLIS;
    }

    @Override
    public long gracePeriodMs() {
      return LATE.toMillis();
    }
  }

  /** Drops an id that was seen before, looked up in the store under the day of its event. */
  private static final class Dedupe implements FixedKeyProcessor<String, Event, Event> {
    private static final byte[] SEEN = {1};
    private FixedKeyProcessorContext<String, Event> context;
    private WindowStore<String, byte[]> ids;

    @Override
    public void init(FixedKeyProcessorContext<String, Event> context) {
      this.context = context;
      ids = context.getStateStore("ids");
    }

    @Override
    public void process(FixedKeyRecord<String, Event> record) {
      String id = record.value().id;
      long millis = record.value().micros / 1000, day = millis - millis % DAY_MILLIS;
      if (ids.fetch(id, day) != null) return;
      ids.put(id, SEEN, day);
      context.forward(record);
    }
  }

  public static void main(String[] arguments) throws Exception {
    Properties settings = Settings.kafka();
    settings.put("application.id", Settings.GROUP);
    settings.put("bootstrap.servers", Settings.BOOTSTRAP);
    settings.put("state.dir", Settings.STATE);
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("num.stream.threads", Settings.THREADS);
    settings.put("commit.interval.ms", 1000);
    settings.put("statestore.cache.max.bytes", 512L << 20);

    Serde<Event> events = Serdes.serdeFrom(
        (topic, event) -> { throw new UnsupportedOperationException(); },
        (topic, bytes) -> Event.of(null, bytes));
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(Stores.windowStoreBuilder(
        Stores.persistentWindowStore("ids", Duration.ofDays(35), Duration.ofDays(1), false), Serdes.String(), RAW));
    KStream<String, Event> source = builder.stream(Settings.TOPIC, Consumed.with(Serdes.String(), events)
        .withTimestampExtractor((record, before) -> ((Event) record.value()).micros / 1000)
        .withOffsetResetPolicy(AutoOffsetReset.earliest()));
    KGroupedStream<String, Event> grouped =
        source.processValues(Dedupe::new, "ids").groupByKey(Grouped.with(Serdes.String(), events));
    windowed(grouped, TimeWindows.ofSizeAndGrace(Duration.ofHours(1), LATE), Window.HOURLY, 32);
    windowed(grouped, TimeWindows.ofSizeAndGrace(Duration.ofDays(1), LATE), Window.DAILY, 32);
    windowed(grouped, new Months(), Window.MONTHLY, 62);
    grouped.aggregate(() -> null, (key, event, state) -> Window.add(state, event.quantity),
            Materialized.<String, long[], KeyValueStore<Bytes, byte[]>>as("lifetime")
                .withKeySerde(Serdes.String()).withValueSerde(STATE))
        .toStream((key, state) -> name(key, Window.LIFETIME, 0))
        .to(Settings.OUTPUT, Produced.with(Serdes.String(), STATE));

    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
    });
    streams.setStateListener((now, before) -> {
      if (now == KafkaStreams.State.ERROR) Runtime.getRuntime().halt(1);
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(8))));
    streams.start();
    Thread.currentThread().join();
  }

  private static void windowed(KGroupedStream<String, Event> grouped, Windows<TimeWindow> windows, int period, int days) {
    grouped.windowedBy(windows)
        .aggregate(() -> null, (key, event, state) -> Window.add(state, event.quantity),
            Materialized.<String, long[], WindowStore<Bytes, byte[]>>as("windows-" + period)
                .withKeySerde(Serdes.String()).withValueSerde(STATE).withRetention(Duration.ofDays(days)))
        .toStream((key, state) -> name(key.key(), period, key.window().start() / 1000))
        .to(Settings.OUTPUT, Produced.with(Serdes.String(), STATE));
  }

  /** Key of an output record, as WindowSink reads it. */
  private static String name(String key, int period, long start) {
    return period + "|" + start + "|" + key;
  }
}
