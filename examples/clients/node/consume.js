// Follows aggregates and exceeded thresholds: node consume.js SCHEMAS COUNT prints that many events as JSON and stops.
import { readFileSync } from 'node:fs'
import avro from 'avsc'
import { kafka, prefix } from './connection.js'

const [schemas, count] = process.argv.slice(2)
const read = (name) => JSON.parse(readFileSync(`${schemas}/${name}`, 'utf8'))
const headers = read('avro/headers.json')

function decoder(label) {
  const type = avro.Type.forSchema(read(`avro/plain/${label}.avsc`))
  const decimals = read(`avro/${label}.avsc`)
    .fields.filter((field) => JSON.stringify(field.type).includes('"decimal"'))
    .map((field) => field.name)
  return (value) => {
    // Another header is another version of the schema: stop or skip the event, but never decode it with this one.
    if (value.subarray(0, 10).toString('hex') !== headers[label]) throw new Error(`not ${label}; update the schemas`)
    const event = { ...type.fromBuffer(value.subarray(10)) }
    for (const name of decimals) if (event[name] !== null) event[name] = decimal(event[name])
    return event
  }
}

// Text, because a JavaScript number has 15 to 17 digits where a quantity may have 29.
function decimal(bytes) {
  const unscaled = BigInt.asIntN(8 * bytes.length, BigInt(`0x0${bytes.toString('hex')}`))
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(10, '0')
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`
}

const decoders = {
  [`${prefix}usage.aggregated`]: decoder('usage_aggregated.v1'),
  [`${prefix}threshold.exceeded`]: decoder('threshold_exceeded.v1'),
}
const consumer = kafka.consumer({ groupId: `${prefix}example-node`, readUncommitted: false })
await consumer.connect()
await consumer.subscribe({ topics: Object.keys(decoders), fromBeginning: true })
let left = Number(count)
await new Promise((done, failed) => {
  consumer.on('consumer.crash', ({ payload }) => failed(payload.error))
  consumer.run({
    eachMessage: async ({ topic, message }) => {
      if (message.value === null || left === 0) return // a tombstone: the window is no longer kept
      const event = decoders[topic](message.value)
      console.log(JSON.stringify({ topic: topic.slice(prefix.length), ce_id: String(message.headers.ce_id), ...event }))
      if (--left === 0) done()
    },
  })
})
await consumer.disconnect()
