import java.util.Properties;

/** What the benchmark hands to a peer, from its environment. */
final class Settings {
  static final String TOPIC = get("TOPIC"), GROUP = get("GROUP"), OUTPUT = get("OUTPUT"), STATE = get("STATE");
  static final String BOOTSTRAP = get("BOOTSTRAP");
  static final boolean JSON = get("FORMAT").equals("json");
  static final int THREADS = Math.min(4, Runtime.getRuntime().availableProcessors());

  static String get(String name) {
    String value = System.getenv("PEER_" + name);
    if (value == null) throw new IllegalStateException("PEER_" + name + " is not set");
    return value;
  }

  /** Login of every Kafka client. */
  static Properties kafka() {
    Properties login = new Properties();
    login.put("security.protocol", "SASL_PLAINTEXT");
    login.put("sasl.mechanism", "PLAIN");
    login.put("sasl.jaas.config", "org.apache.kafka.common.security.plain.PlainLoginModule required username=\""
        + get("USERNAME") + "\" password=\"" + get("PASSWORD") + "\";");
    return login;
  }

  private Settings() {}
}
