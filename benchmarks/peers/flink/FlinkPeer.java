import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * The windows as a Flink job on a local cluster: exactly-once checkpoints every second, all state on the heap, object
 * reuse, the background cleanup of state TTL off. Windows that changed are emitted every second and written to
 * ClickHouse at the latest with the next checkpoint.
 */
public final class FlinkPeer {
  private static final TypeInformation<long[]> LONGS = PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO;

  /** A record of the topic to an event. */
  public static final class Decoder implements KafkaRecordDeserializationSchema<Event> {
    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Event> out) {
      out.collect(Event.of(new String(record.key(), StandardCharsets.UTF_8), record.value()));
    }

    @Override
    public TypeInformation<Event> getProducedType() {
      return TypeInformation.of(Event.class);
    }
  }

  /** Drops repeated ids of a subject, counts the others in the four windows, and emits the changed ones by a timer. */
  public static final class Aggregate extends KeyedProcessFunction<String, Event, Row> {
    private transient MapState<String, Boolean> ids;
    private transient MapState<Long, long[]> windows, lifetime;
    private transient MapState<Long, Boolean> changed;
    private transient long monthStart, monthEnd;

    @Override
    public void open(OpenContext context) {
      MapStateDescriptor<String, Boolean> seen = new MapStateDescriptor<>("ids", Types.STRING, Types.BOOLEAN);
      seen.enableTimeToLive(kept(35));
      ids = getRuntimeContext().getMapState(seen);
      MapStateDescriptor<Long, long[]> open = new MapStateDescriptor<>("windows", Types.LONG, LONGS);
      open.enableTimeToLive(kept(62));
      windows = getRuntimeContext().getMapState(open);
      lifetime = getRuntimeContext().getMapState(new MapStateDescriptor<>("lifetime", Types.LONG, LONGS));
      changed = getRuntimeContext().getMapState(new MapStateDescriptor<>("changed", Types.LONG, Types.BOOLEAN));
    }

    private static StateTtlConfig kept(int days) {
      return StateTtlConfig.newBuilder(Duration.ofDays(days)).disableCleanupInBackground().build();
    }

    @Override
    public void processElement(Event event, Context context, Collector<Row> out) throws Exception {
      if (ids.contains(event.id)) return;
      ids.put(event.id, true);
      long seconds = Math.floorDiv(event.micros, 1_000_000L);
      if (seconds < monthStart || seconds >= monthEnd) {
        monthStart = Window.monthStart(seconds);
        monthEnd = Window.nextMonth(monthStart);
      }
      add(windows, Window.HOURLY, seconds - seconds % Window.HOUR, event.quantity);
      add(windows, Window.DAILY, seconds - seconds % Window.DAY, event.quantity);
      add(windows, Window.MONTHLY, monthStart, event.quantity);
      add(lifetime, Window.LIFETIME, 0, event.quantity);
      long now = context.timerService().currentProcessingTime();
      context.timerService().registerProcessingTimeTimer((now / 1000 + 1) * 1000);
    }

    private void add(MapState<Long, long[]> states, int period, long start, long quantity) throws Exception {
      long window = start << 3 | period;
      states.put(window, Window.add(states.get(window), quantity));
      changed.put(window, true);
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Row> out) throws Exception {
      String key = context.getCurrentKey();
      for (Long window : changed.keys()) {
        int period = (int) (window & 7);
        out.collect(new Row(key, window, (period == Window.LIFETIME ? lifetime : windows).get(window)));
      }
      changed.clear();
    }
  }

  /** The state of one window; `window` is its start in seconds and, in the lowest three bits, its period. */
  public static final class Row {
    public String key;
    public long window, count, sum, min, max;

    public Row() {}

    Row(String key, long window, long[] state) {
      this.key = key;
      this.window = window;
      count = state[0];
      sum = state[1];
      min = state[2];
      max = state[3];
    }
  }

  public static void main(String[] arguments) throws Exception {
    Configuration settings = new Configuration();
    settings.setString("state.backend.type", "hashmap");
    settings.setString("execution.checkpointing.interval", "1 s");
    settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
    settings.setString("execution.checkpointing.storage", "filesystem");
    settings.setString("execution.checkpointing.dir", Path.of(Settings.STATE, "checkpoints").toUri().toString());
    settings.setString("io.tmp.dirs", Settings.STATE);
    settings.setString("pipeline.object-reuse", "true");
    settings.setString("taskmanager.numberOfTaskSlots", Integer.toString(Settings.THREADS));
    settings.setString("rest.bind-address", "127.0.0.1");
    settings.setString("rest.address", "127.0.0.1");
    settings.setString("restart-strategy.type", "none"); // a failure ends the benchmark of this peer
    StreamExecutionEnvironment environment =
        StreamExecutionEnvironment.createLocalEnvironment(Settings.THREADS, settings);
    KafkaSource<Event> source = KafkaSource.<Event>builder()
        .setBootstrapServers(Settings.BOOTSTRAP)
        .setProperties(Settings.kafka())
        .setTopics(Settings.TOPIC)
        .setGroupId(Settings.GROUP)
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setDeserializer(new Decoder())
        .build();
    environment.fromSource(source, WatermarkStrategy.noWatermarks(), "usage")
        .keyBy(event -> event.key)
        .process(new Aggregate())
        .sinkTo(new WindowSink());
    environment.execute(Settings.GROUP);
  }

  private FlinkPeer() {}
}
