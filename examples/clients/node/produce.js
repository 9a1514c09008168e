// Records usage: node produce.js SCHEMAS EVENTS sends each line of the JSON Lines file EVENTS.
import { readFileSync } from 'node:fs'
import avro from 'avsc'
import { CompressionTypes, Partitioners } from 'kafkajs'
import { kafka, prefix } from './connection.js'

const [schemas, events] = process.argv.slice(2)
const read = (name) => JSON.parse(readFileSync(`${schemas}/${name}`, 'utf8'))
// The schema without logical types: avsc has no decimals and computes no Avro fingerprints.
const type = avro.Type.forSchema(read('avro/plain/usage_recorded.v1.avsc'))
const header = Buffer.from(read('avro/headers.json')['usage_recorded.v1'], 'hex')

// JSON.stringify writes the escapes of RFC 8785 and no spaces.
const key = (event) => JSON.stringify([event.org_id, event.metric_key, event.subject_type, event.subject_id])

// Decimal text as a big-endian two's complement integer of 10^-9, in as few bytes as hold it.
function decimal(text) {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(text)
  const unscaled = BigInt(sign + whole + fraction.padEnd(9, '0'))
  let bytes = 1
  while (BigInt.asIntN(8 * bytes, unscaled) !== unscaled) bytes++
  return Buffer.from(BigInt.asUintN(8 * bytes, unscaled).toString(16).padStart(2 * bytes, '0'), 'hex')
}

// timestamp: microseconds since 1970 in UTC, from a Date: date.getTime() * 1000
const optional = { source: null, resource_type: null, resource_id: null, metadata: null }
const value = (event) =>
  Buffer.concat([header, type.toBuffer({ ...optional, ...event, quantity: decimal(event.quantity) })])

const producer = kafka.producer({
  idempotent: true,
  maxInFlightRequests: 1,
  createPartitioner: Partitioners.DefaultPartitioner, // murmur2, as in Java; not LegacyPartitioner
})
await producer.connect()
const lines = readFileSync(events, 'utf8').trimEnd().split('\n')
const messages = lines.map((line) => JSON.parse(line).fields).map((event) => ({ key: key(event), value: value(event) }))
// Rejects if the broker did not confirm the events: send them again with the same ids.
await producer.send({
  topic: `${prefix}usage.recorded`,
  acks: -1,
  compression: CompressionTypes.GZIP,
  messages,
})
await producer.disconnect()
console.log(`${messages.length} events confirmed`)
