"""`meterfold status`: asks Kafka and ClickHouse, whether or not both answer."""
