// A stock client as it comes: jayson. Takes the server's URL, user and API key.

import { createRequire } from "node:module";

const jayson = createRequire(import.meta.url)("jayson/promise");
const [url, user, key] = process.argv.slice(2);
const client = jayson.Client.http(url);
const say = (what, value) => console.log(`${what}: ${JSON.stringify(value)}`);

const session = (await client.request("login", [user, key])).result;
say("by position", session.length);
const named = { session, webhook: { topics: "a:b", delivery_mode: "pull" }, return_webhook: 1 };
const webhook = (await client.request("webhook.create", named)).result;
say("by name", webhook.webhook_id);
const call = [session, "event.publish", ["a:b", { n: 1 }]];
say("through call", (await client.request("call", call)).result.deliveries);
const { code, message } = (await client.request("webhook.get", [session, 4711])).error;
say("fault", [code, message]);
const number = async () => (await client.request("webhook.get", [session, 1])).result.increment_id;
await client.request("event.publish", [session, "a:b", { n: 2 }], null);
say("after a notification", await number());
const many = [[session, [["webhook.count"], ["webhook.get", [4711]]]]];
say(
  "multiCall",
  (await client.request("multiCall", many[0])).result.map((result) => result.faultCode ?? result),
);
const batch = [
  client.request("webhook.count", [session], undefined, false),
  client.request("event.publish", [session, "a:b", { n: 3 }], null, false),
  client.request("webhook.get", [session, 4711], undefined, false),
];
say(
  "batch",
  (await client.request(batch)).map(({ result, error }) => result ?? error.code),
);
say("after a batch", await number());
say("end", (await client.request("endSession", [session])).result);
