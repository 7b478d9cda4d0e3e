// The openai package of npm: an answer, a stream, a forced tool, parsed output, embeddings' refusal, Responses.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const options = { model, messages, temperature: 0, max_completion_tokens: 48 };

const whole = await client.chat.completions.create(options);
assert.match(whole.choices[0].message.content, /Paris/);

let text = "";
for await (const chunk of await client.chat.completions.create({ ...options, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);

const tool = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false } },
};
const called = await client.chat.completions.create({
  ...options,
  messages: [{ role: "user", content: "How is the weather in Oslo?" }],
  tools: [tool],
  tool_choice: "required",
});
const call = called.choices[0].message.tool_calls[0].function;
assert.equal(call.name, "weather");
assert.equal(typeof JSON.parse(call.arguments).city, "string");

const City = z.object({ name: z.string(), country: z.string() });
const parsed = await client.chat.completions.parse({
  ...options,
  messages: [{ role: "user", content: "Name a city in Italy, as JSON." }],
  response_format: zodResponseFormat(City, "city"),
});
assert.equal(typeof parsed.choices[0].message.parsed.name, "string");

const response = await client.responses.create({ model, input: "What is the capital of France?", temperature: 0, max_output_tokens: 24 });
assert.match(response.output_text, /Paris/);

await assert.rejects(
  client.chat.completions.create({ ...options, model: "nobody" }),
  (error) => error instanceof OpenAI.NotFoundError,
);
