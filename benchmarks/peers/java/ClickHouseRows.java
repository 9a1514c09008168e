import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;

/** Rows of the table windows, collected in RowBinary and inserted over HTTP. Not for several threads. */
final class ClickHouseRows {
  private static final JsonFactory JSON = new JsonFactory();
  private static final int REMEMBERED = 1_000_000;

  private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private final HttpRequest.Builder request;
  private final HashMap<String, byte[]> subjects = new HashMap<>();
  private ByteBuffer buffer = ByteBuffer.allocate(1 << 20).order(ByteOrder.LITTLE_ENDIAN);
  private int rows;

  ClickHouseRows() {
    String query = URLEncoder.encode("INSERT INTO windows FORMAT RowBinary", StandardCharsets.UTF_8);
    String database = URLEncoder.encode(Settings.get("CLICKHOUSE_DATABASE"), StandardCharsets.UTF_8);
    request = HttpRequest.newBuilder(
            URI.create(Settings.get("CLICKHOUSE_URL") + "/?database=" + database + "&query=" + query))
        .header("X-ClickHouse-User", Settings.get("CLICKHOUSE_USER"))
        .header("X-ClickHouse-Key", Settings.get("CLICKHOUSE_PASSWORD"));
  }

  int size() {
    return rows;
  }

  void add(String key, int period, long start, long count, long sum, long min, long max) {
    byte[] subject = subjects.get(key);
    if (subject == null) {
      if (subjects.size() >= REMEMBERED) subjects.clear();
      subjects.put(key, subject = subject(key));
    }
    if (buffer.remaining() < subject.length + 61) {
      buffer = ByteBuffer.wrap(Arrays.copyOf(buffer.array(), 2 * buffer.capacity()), buffer.position(),
          2 * buffer.capacity() - buffer.position()).order(ByteOrder.LITTLE_ENDIAN);
    }
    buffer.put(subject).put((byte) period).putInt((int) start).putLong(count);
    for (long number : new long[] {sum, min, max}) buffer.putLong(number).putLong(number >> 63); // Decimal(38, 9)
    rows++;
  }

  /** Insert what was collected. Repeating it is harmless: the table keeps the row with the highest count. */
  void flush() throws IOException {
    if (rows == 0) return;
    try {
      HttpResponse<String> answer = client.send(
          request.POST(HttpRequest.BodyPublishers.ofByteArray(buffer.array(), 0, buffer.position())).build(),
          HttpResponse.BodyHandlers.ofString());
      if (answer.statusCode() != 200) throw new IOException("ClickHouse: " + answer.body());
    } catch (InterruptedException error) {
      throw new IOException(error);
    }
    buffer.clear();
    rows = 0;
  }

  /** The key is a JSON array of four texts; RowBinary has the length of each before it. */
  private static byte[] subject(String key) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (JsonParser parser = JSON.createParser(key)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.VALUE_STRING) {
        byte[] text = parser.getText().getBytes(StandardCharsets.UTF_8);
        int size = text.length;
        for (; size > 127; size >>= 7) out.write(size & 127 | 128);
        out.write(size);
        out.writeBytes(text);
      }
    } catch (IOException error) {
      throw new IllegalArgumentException(key, error);
    }
    return out.toByteArray();
  }
}
