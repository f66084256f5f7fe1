// A stock client as it comes: json-rpc-2.0, over fetch as its documentation has it. Takes the
// server's URL, user and API key.

import { createRequire } from "node:module";

const { JSONRPCClient } = createRequire(import.meta.url)("json-rpc-2.0");
const [url, user, key] = process.argv.slice(2);
let sent;
const client = new JSONRPCClient((request) => {
  sent = fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  }).then((response) => {
    if (response.status === 200) {
      return request.id === undefined && !Array.isArray(request)
        ? undefined
        : response.json().then((answer) => client.receive(answer));
    }
    return Promise.reject(new Error(response.statusText));
  });
  return sent;
});
const say = (what, value) => console.log(`${what}: ${JSON.stringify(value)}`);

const session = await client.request("login", [user, key]);
say("by position", session.length);
const named = { session, webhook: { topics: "a:b", delivery_mode: "pull" }, return_webhook: 1 };
say("by name", (await client.request("webhook.create", named)).webhook_id);
const call = [session, "event.publish", ["a:b", { n: 1 }]];
say("through call", (await client.request("call", call)).deliveries);
const fault = await client
  .request("webhook.get", [session, 4711])
  .then(undefined, (error) => error);
say("fault", [fault.code, fault.message]);
const number = async () => (await client.request("webhook.get", [session, 1])).increment_id;
client.notify("event.publish", [session, "a:b", { n: 2 }]);
await sent;
say("after a notification", await number());
const many = await client.request("multiCall", [
  session,
  [["webhook.count"], ["webhook.get", [4711]]],
]);
say(
  "multiCall",
  many.map((result) => result.faultCode ?? result),
);
const batch = await client.requestAdvanced([
  { jsonrpc: "2.0", id: 101, method: "webhook.count", params: [session] },
  { jsonrpc: "2.0", method: "event.publish", params: [session, "a:b", { n: 3 }] },
  { jsonrpc: "2.0", id: 103, method: "webhook.get", params: [session, 4711] },
]);
say(
  "batch",
  batch.map(({ result, error }) => result ?? error.code),
);
say("after a batch", await number());
say("end", await client.request("endSession", [session]));
