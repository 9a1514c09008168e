"""How an installation is: asked of Kafka and ClickHouse, whether or not both answer."""
