// The openai package of npm: answers, streams, a tool loop, parsed output, text completions, Responses,
// a batch, models, errors.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const question = "What is the capital of France?";
const options = {
  model,
  messages: [{ role: "user", content: question }],
  temperature: 0,
  max_completion_tokens: 48,
};

const whole = await client.chat.completions.create(options);
const answer = whole.choices[0].message.content;
assert.match(answer, /Paris/);

let text = "";
for await (const chunk of await client.chat.completions.create({ ...options, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, answer);
const stream = client.chat.completions.stream({ ...options, stream_options: { include_usage: true } });
assert.equal(await stream.finalContent(), answer);
assert.equal((await stream.totalUsage()).completion_tokens, whole.usage.completion_tokens);

const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Oslo", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters, strict: true } }];
const messages = [{ role: "user", content: "How is the weather in Oslo?" }];
const called = await client.chat.completions.create({ ...options, messages, tools, tool_choice: "required", parallel_tool_calls: false });
assert.equal(called.choices[0].finish_reason, "tool_calls");
const call = called.choices[0].message.tool_calls[0];
assert.equal(call.function.name, "weather");
assert.match(JSON.parse(call.function.arguments).city, /^(Oslo|Rome)$/);
const result = { role: "tool", tool_call_id: call.id, content: "Rain." };
const told = await client.chat.completions.create({
  ...options,
  messages: [...messages, called.choices[0].message, result],
  tools,
  tool_choice: "none",
});
assert.ok(told.choices[0].message.content);
assert.equal(told.choices[0].message.tool_calls, undefined);

const City = z.object({ name: z.enum(["Rome", "Milan"]), old: z.boolean() });
const parsed = await client.chat.completions.parse({
  ...options,
  messages: [{ role: "user", content: "Name a city in Italy, as JSON." }],
  response_format: zodResponseFormat(City, "city"),
});
assert.equal(typeof parsed.choices[0].message.parsed.old, "boolean");

const completion = await client.completions.create({ model, prompt: "The capital of France is", max_tokens: 4, temperature: 0 });
assert.match(completion.choices[0].text, /Paris/);

const asked = { model, input: question, temperature: 0, max_output_tokens: 48 };
const response = await client.responses.create(asked);
assert.equal(response.output_text, answer);
const final = await client.responses.stream(asked).finalResponse();
assert.equal(final.output_text, answer);
assert.equal((await client.responses.retrieve(response.id)).output_text, answer);
const city = await client.responses.parse({ ...asked, text: { format: zodTextFormat(City, "city") } });
assert.equal(typeof city.output_parsed.old, "boolean");

const line = { custom_id: "one", method: "POST", url: "/v1/chat/completions", body: options };
const input = await client.files.create({ file: await toFile(Buffer.from(JSON.stringify(line)), "asked.jsonl"), purpose: "batch" });
let batch = await client.batches.create({ input_file_id: input.id, endpoint: line.url, completion_window: "24h" });
for (let tries = 0; tries < 600 && !["completed", "failed"].includes(batch.status); tries++) {
  await sleep(100);
  batch = await client.batches.retrieve(batch.id);
}
const output = JSON.parse(await (await client.files.content(batch.output_file_id)).text());
assert.equal(output.response.body.choices[0].message.content, answer);

const served = [];
for await (const found of client.models.list()) served.push(found.id);
assert.equal(served.length, 1);
assert.equal((await client.models.retrieve(served[0])).id, served[0]);

await assert.rejects(
  client.chat.completions.create({ ...options, model: "nobody" }),
  (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
);
await assert.rejects(
  client.chat.completions.create({ ...options, temperature: 3, stream: true }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
);
