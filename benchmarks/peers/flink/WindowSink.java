import java.io.IOException;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/**
 * Inserts rows into ClickHouse in batches, all of them before a checkpoint completes. A replay after a failure repeats
 * rows, which the table replaces: the same count is the same state.
 */
public final class WindowSink implements Sink<FlinkPeer.Row> {
  private static final int FLUSH_ROWS = 100_000;

  @Override
  public SinkWriter<FlinkPeer.Row> createWriter(WriterInitContext context) {
    ClickHouseRows rows = new ClickHouseRows();
    return new SinkWriter<>() {
      @Override
      public void write(FlinkPeer.Row row, Context context) throws IOException {
        rows.add(row.key, (int) (row.window & 7), row.window >> 3, row.count, row.sum, row.min, row.max);
        if (rows.size() >= FLUSH_ROWS) rows.flush();
      }

      @Override
      public void flush(boolean endOfInput) throws IOException {
        rows.flush();
      }

      @Override
      public void close() {}
    };
  }
}
