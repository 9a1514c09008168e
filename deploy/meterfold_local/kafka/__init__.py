"""Apache Kafka for the local stack, without Java on the machine."""
