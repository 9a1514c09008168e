// Prints, for each AsyncAPI document that is named, its channels and the errors that AsyncAPI's parser finds in it.
import { readFileSync } from 'node:fs'
import avro from '@asyncapi/avro-schema-parser'
import { DiagnosticSeverity, Parser } from '@asyncapi/parser'

const found = []
for (const name of process.argv.slice(2)) {
  const parser = new Parser({ schemaParsers: [avro.AvroSchemaParser()] })
  const { document, diagnostics } = await parser.parse(readFileSync(name, 'utf8'))
  const errors = diagnostics.filter((one) => one.severity <= DiagnosticSeverity.Warning)
  found.push({
    channels: document ? document.channels().all().map((channel) => channel.address()).sort() : [],
    errors: errors.map((one) => `${one.path.join('.')}: ${one.message}`),
  })
}
console.log(JSON.stringify(found))
