-- A notifier looks every second for deliveries that users have requested: it reads the granules of new rounds only.
ALTER TABLE notification_tries ADD INDEX IF NOT EXISTS by_round round TYPE minmax GRANULARITY 1;
ALTER TABLE notification_tries MATERIALIZE INDEX by_round;
