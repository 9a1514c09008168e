// A typed client of docs/openapi.json against the running server: tsc checks the types, node runs it.
import createClient from "openapi-fetch";
import type { components, paths } from "./meterfold.js";

declare const process: { env: Record<string, string> };

const baseUrl = process.env.METERFOLD_URL;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${process.env.METERFOLD_TOKEN}` } });

function expect(holds: boolean, otherwise: unknown): asserts holds {
  if (!holds) throw new Error(`unexpected: ${JSON.stringify(otherwise)}`);
}

const body = { key: "ts.calls", name: "Calls", unit: "calls", dimensions: ["model"] };
const defined = await client.POST("/v1/metrics", { body });
expect(defined.data?.version !== undefined, defined.error);
const again = await client.POST("/v1/metrics", { body });
expect(again.data?.id === defined.data.id, again.error);
const changed = await client.PATCH("/v1/metrics/{key}", { params: { path: { key: body.key } }, body: { unit: "call" } });
expect(changed.data?.unit === "call" && changed.data.dimensions[0] === "model", changed.error);

let cursor: string | undefined;
const found: components["schemas"]["Metric"][] = [];
do {
  const page = await client.GET("/v1/metrics", { params: { query: { limit: 1, sort: "key", cursor } } });
  expect(page.data !== undefined, page.error);
  found.push(...page.data.data);
  cursor = page.data.next_cursor ?? undefined;
} while (cursor !== undefined);
expect(found.map((one) => one.key).includes("ts.calls") && found.length > 1, found);

const query = { start: process.env.METERFOLD_START, period: "daily" as const };
const summary = await client.GET("/v1/usage/{metric_key}/summary", { params: { path: { metric_key: "api.calls" }, query } });
expect(summary.data?.data[0]?.total_quantity === "12.5", summary.data ?? summary.error);

const missing = await client.GET("/v1/metrics/{key}", { params: { path: { key: "nowhere" } } });
const problem: components["schemas"]["Problem"] | undefined = missing.error;
expect(missing.response.status === 404 && problem?.code === "METRIC_NOT_FOUND", problem);
console.log("TypeScript client: metrics, pages, summary and errors are as described");
