import java.util.Properties;

/** Where Kafka is, from the environment. */
final class Connection {
    static final String PREFIX = variable("METERFOLD_KAFKA_TOPIC_PREFIX");

    static Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", variable("METERFOLD_KAFKA_BOOTSTRAP_SERVERS"));
        if (!variable("KAFKA_USERNAME").isEmpty()) { // the local stack; use SASL_SSL elsewhere
            settings.put("security.protocol", "SASL_PLAINTEXT");
            settings.put("sasl.mechanism", "PLAIN");
            settings.put("sasl.jaas.config", String.format(
                    "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"%s\" password=\"%s\";",
                    variable("KAFKA_USERNAME"), variable("KAFKA_PASSWORD")));
        }
        return settings;
    }

    private static String variable(String name) {
        return System.getenv().getOrDefault(name, "");
    }
}
