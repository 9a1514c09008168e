import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;

/** The fields of a usage event that the windows need. The message key names the subject. */
public class Event {
  private static final int HEADER_SIZE = 10;
  private static final long NANO = 1_000_000_000L;
  private static final JsonFactory JSON = new JsonFactory();
  private static final ThreadLocal<BinaryDecoder> DECODER = new ThreadLocal<>();
  private static final AtomicBoolean STARTED = new AtomicBoolean();

  public String key, id;
  /** In units of 10^-9. */
  public long quantity;
  public long micros;

  public Event() {}

  static Event of(String key, byte[] value) {
    if (!STARTED.get() && STARTED.compareAndSet(false, true)) {
      System.out.println("ready");
      System.out.flush();
    }
    try {
      Event event = Settings.JSON ? json(value) : avro(value);
      event.key = key;
      return event;
    } catch (IOException error) {
      throw new IllegalArgumentException(error);
    }
  }

  private static Event json(byte[] value) throws IOException {
    Event event = new Event();
    try (JsonParser parser = JSON.createParser(value)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        JsonToken token = parser.nextToken();
        switch (name) {
          case "id" -> event.id = parser.getText();
          case "quantity" -> event.quantity = token == JsonToken.VALUE_NUMBER_INT
              ? Math.multiplyExact(parser.getLongValue(), NANO)
              : parser.getDecimalValue().movePointRight(9).longValueExact();
          case "timestamp" -> {
            Instant time = Instant.parse(parser.getText());
            event.micros = time.getEpochSecond() * 1_000_000 + time.getNano() / 1000;
          }
          default -> parser.skipChildren();
        }
      }
    }
    return event;
  }

  private static Event avro(byte[] value) throws IOException {
    BinaryDecoder decoder =
        DecoderFactory.get().binaryDecoder(value, HEADER_SIZE, value.length - HEADER_SIZE, DECODER.get());
    DECODER.set(decoder);
    Event event = new Event();
    event.id = decoder.readString();
    for (int field = 0; field < 4; field++) decoder.skipString(); // the subject
    ByteBuffer decimal = decoder.readBytes(null);
    event.quantity = new BigInteger(decimal.array(), decimal.position(), decimal.remaining()).longValueExact();
    for (int field = 0; field < 4; field++) if (decoder.readIndex() == 1) decoder.skipString(); // optional texts
    event.micros = decoder.readLong();
    return event;
  }
}
