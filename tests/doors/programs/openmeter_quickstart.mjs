// The quickstart of OpenMeter's JavaScript client, with another base URL and key.
import { OpenMeter } from '@openmeter/sdk'

const openmeter = new OpenMeter({
  baseUrl: process.env.ENDPOINT,
  apiKey: process.env.TOKEN,
})

if (process.argv[2] === 'write') {
  await openmeter.meters.create({
    slug: 'ai_tokens',
    eventType: 'ai-tokens',
    aggregation: 'SUM',
    valueProperty: '$.tokens',
    groupBy: { model: '$.model', type: '$.type' },
  })
  // Ingest a single AI token usage event
  await openmeter.events.ingest({
    type: 'ai-tokens',
    subject: 'customer-acme-corp',
    id: 'evt_01234567', // optional: auto-generated if not provided
    source: 'llm-api-gateway', // optional: defaults to '@openmeter/sdk'
    time: new Date(), // optional: defaults to current time
    data: {
      model: 'gpt-4',
      type: 'input',
      tokens: 1250,
    },
  })

  // Ingest multiple events in a batch for better performance
  await openmeter.events.ingest([
    {
      type: 'ai-tokens',
      subject: 'customer-acme-corp',
      data: { model: 'gpt-4', type: 'input', tokens: 850 },
    },
    {
      type: 'ai-tokens',
      subject: 'customer-acme-corp',
      data: { model: 'gpt-4', type: 'output', tokens: 850 },
    },
  ])
} else {
  const from = new Date(Date.now() - 36e5)
  const total = await openmeter.meters.query('ai_tokens')
  const grouped = await openmeter.meters.query('ai_tokens', {
    from,
    windowSize: 'MINUTE',
    groupBy: ['type'],
    filterGroupBy: { type: 'output' },
  })
  const events = await openmeter.events.list({ subject: 'customer-acme-corp' })
  const subject = await openmeter.subjects.get('customer-acme-corp')
  console.log(
    JSON.stringify({
      total: total.data[0].value,
      grouped: grouped.data.map((row) => [row.groupBy.type, row.value]),
      ids: events.map((one) => one.event.id).includes('evt_01234567'),
      events: events.length,
      subject: subject.key,
    }),
  )
}
