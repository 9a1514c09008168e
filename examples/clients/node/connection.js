// Where Kafka is, from the environment.
import { Kafka, logLevel } from 'kafkajs'

const { METERFOLD_KAFKA_BOOTSTRAP_SERVERS, METERFOLD_KAFKA_TOPIC_PREFIX, KAFKA_USERNAME, KAFKA_PASSWORD } = process.env

export const prefix = METERFOLD_KAFKA_TOPIC_PREFIX ?? ''
export const kafka = new Kafka({
  brokers: METERFOLD_KAFKA_BOOTSTRAP_SERVERS.split(','),
  // The local stack asks for a password; use TLS elsewhere (ssl: true).
  sasl: KAFKA_USERNAME ? { mechanism: 'plain', username: KAFKA_USERNAME, password: KAFKA_PASSWORD } : undefined,
  logLevel: logLevel.ERROR,
})
