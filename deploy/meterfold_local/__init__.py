"""The local stack of development: Apache Kafka, and ClickHouse's engine behind HTTP, as processes of this machine."""
