import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.TreeMap;

/**
 * Checks clickhouse-jdbc against the local ClickHouse server.
 *
 * <pre>METERFOLD_CLICKHOUSE_URL=http://127.0.0.1:8123 METERFOLD_CLICKHOUSE_PASSWORD=... mvn -q compile exec:java</pre>
 *
 * It runs once with the driver's defaults and once with each kind of compression, and fails at the first difference.
 */
public final class JdbcClient {
  private static final int ROWS = 3000;
  private static final BigDecimal LARGE = new BigDecimal("12345678901234567890.123456789");
  private static final LocalDateTime START = LocalDateTime.of(2026, 1, 2, 3, 4, 5, 123_456_000);

  public static void main(String[] arguments) throws Exception {
    Map<String, String> variants = new TreeMap<>();
    variants.put("default", "");
    variants.put("plain", "?compress=0");
    variants.put("requests", "?decompress=1");
    variants.put("http", "?client.use_http_compression=true&decompress=1");
    for (Map.Entry<String, String> variant : variants.entrySet()) {
      check(variant.getKey(), variant.getValue());
      System.out.println("clickhouse-jdbc, " + variant.getKey() + ": ok");
    }
  }

  private static void check(String name, String options) throws SQLException {
    String url = System.getenv("METERFOLD_CLICKHOUSE_URL").replaceFirst("^http:", "jdbc:clickhouse:http:");
    Properties account = new Properties();
    account.setProperty("user", "default");
    account.setProperty("password", System.getenv("METERFOLD_CLICKHOUSE_PASSWORD"));
    String table = "clients_java_" + name;
    try (Connection connection = DriverManager.getConnection(url + "/default" + options, account);
        Statement statement = connection.createStatement()) {
      try (ResultSet one = statement.executeQuery("SELECT 1")) {
        expect(one.next() && one.getInt(1) == 1, "SELECT 1");
      }
      statement.execute("DROP TABLE IF EXISTS " + table);
      statement.execute("CREATE TABLE " + table + " (id UInt64, quantity Decimal(38, 9), time DateTime64(6, 'UTC'), "
          + "note Nullable(String), labels Map(String, String), kind LowCardinality(String)) "
          + "ENGINE = MergeTree ORDER BY id");
      insert(connection, table);
      compare(statement, table);
      fails(statement, "SELECT * FROM no_such_table", 60);
      fails(statement, "SELEC 1", 62);
      fails(statement, "INSERT INTO " + table + " (id) VALUES ('x')", 6);
      fails(statement, "SELECT throwIf(number = 900000) FROM numbers(1000000)", 395);
    }
  }

  private static void insert(Connection connection, String table) throws SQLException {
    String sql = "INSERT INTO " + table + " (id, quantity, time, note, labels, kind) VALUES (?, ?, ?, ?, ?, ?)";
    try (PreparedStatement insert = connection.prepareStatement(sql)) {
      for (int n = 0; n < ROWS; n++) {
        insert.setLong(1, n);
        insert.setBigDecimal(2, quantity(n));
        insert.setObject(3, time(n).atOffset(ZoneOffset.UTC));
        insert.setString(4, note(n));
        insert.setObject(5, labels(n));
        insert.setString(6, "kind-" + n % 7);
        insert.addBatch();
      }
      insert.executeBatch();
    }
  }

  private static void compare(Statement statement, String table) throws SQLException {
    int n = 0;
    try (ResultSet rows = statement.executeQuery("SELECT * FROM " + table + " ORDER BY id")) {
      while (rows.next()) {
        List<Object> found = new ArrayList<>();
        found.add(rows.getLong(1));
        found.add(rows.getBigDecimal(2));
        found.add(rows.getObject(3, OffsetDateTime.class).toInstant());
        found.add(rows.getString(4));
        found.add(new TreeMap<>((Map<?, ?>) rows.getObject(5)));
        found.add(rows.getString(6));
        List<Object> expected = new ArrayList<>();
        expected.add((long) n);
        expected.add(quantity(n));
        expected.add(time(n).toInstant(ZoneOffset.UTC));
        expected.add(note(n));
        expected.add(labels(n));
        expected.add("kind-" + n % 7);
        expect(Objects.equals(found, expected), "row " + n + ": found " + found + ", expected " + expected);
        n++;
      }
    }
    expect(n == ROWS, n + " rows instead of " + ROWS);
    long length = 0;
    try (ResultSet rows = statement.executeQuery("SELECT toString(number) FROM numbers(500000)")) {
      while (rows.next()) {
        length += rows.getString(1).length();
      }
    }
    expect(length == 2888890, "a large result: " + length + " characters");
  }

  private static void fails(Statement statement, String sql, int code) {
    try (ResultSet rows = statement.executeQuery(sql)) {
      while (rows.next()) {
        rows.getInt(1);
      }
    } catch (SQLException error) {
      expect(error.getErrorCode() == code, sql + ": code " + error.getErrorCode() + " in " + error);
      return;
    }
    throw new AssertionError(sql + ": no exception");
  }

  private static BigDecimal quantity(int n) {
    return LARGE.subtract(BigDecimal.valueOf(n));
  }

  private static LocalDateTime time(int n) {
    return START.plusNanos(1000L * n);
  }

  private static String note(int n) {
    return n % 3 == 0 ? null : "note ä ? ' \\ " + n;
  }

  private static Map<String, String> labels(int n) {
    Map<String, String> labels = new TreeMap<>();
    for (int label = 0; label < n % 4; label++) {
      labels.put("k" + label, "v" + n);
    }
    return labels;
  }

  private static void expect(boolean condition, String message) {
    if (!condition) {
      throw new AssertionError(message);
    }
  }
}
