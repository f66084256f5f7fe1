// What `tests/clients/sdk.rs` runs with the package for TypeScript; script.py does the same in Python.
// Takes the server's URL, user, API key, and a folder; prints what it has seen.

import { createHmac } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";

import {
  Client,
  FaultError,
  MemoryStore,
  NoWebhookError,
  Receiver,
  type ReceiverOptions,
  type ReceiverStatus,
  type RequestHeaders,
  TallyhookError,
  TimeoutError,
  type Tombstone,
  TransportError,
  verifyDelivery,
} from "tallyhook";
import { FileStore } from "tallyhook/file-store";

const [url = "", username = "", apiKey = "", folder = ""] = process.argv.slice(2);
const client = new Client({ url, username, apiKey, retries: 2 });

type Host = (body: Buffer, headers: RequestHeaders) => Promise<ReceiverStatus>;
const hosts = new Map<string, Host>();
const http = createHttpServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const host = hosts.get(request.url ?? "");
  response.writeHead(host === undefined ? 404 : await host(body, request.headers)).end();
});
const place = await new Promise<string>((resolve) => {
  http.listen(0, "127.0.0.1", () =>
    resolve(`http://127.0.0.1:${(http.address() as AddressInfo).port}`),
  );
});

/** Counts, and tells when a count is reached. */
class Counter {
  count = 0;
  #waiting: { count: number; tell: () => void }[] = [];

  add(): void {
    this.count += 1;
    for (const { count, tell } of this.#waiting) if (this.count >= count) tell();
  }

  reach(count: number): Promise<void> {
    return this.count >= count
      ? Promise.resolve()
      : new Promise((tell) => this.#waiting.push({ count, tell }));
  }
}

function say(what: string, value: unknown): void {
  console.log(`${what}: ${JSON.stringify(value)}`);
}

// A hundred events, of which ten are lost on the way, and one meets a handler that fails.
const webhook = await client.webhook.create({ topics: "order:*", url: `${place}/main`, retry: [] });
const webhookId = webhook.webhook_id;
const handled: number[] = [];
const arrived = new Counter();
const errors: unknown[] = [];
let last: { body: Buffer; headers: RequestHeaders } | undefined;
let hasFailed = false;

function makeReceiver(): Receiver {
  return new Receiver({
    secrets: ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", webhook.secret_key],
    client,
    webhookId,
    store: new FileStore(join(folder, "state.json")),
    onError: (error) => errors.push(error),
    handle: async (event) => {
      if (event.message["n"] !== event.increment_id) throw new Error("another event");
      if (event.increment_id === 50 && !hasFailed) {
        hasFailed = true;
        throw new Error("on purpose");
      }
      handled.push(event.increment_id);
    },
  });
}

let receiver = makeReceiver();
const seen = new Set<number>();
const answers = new Map<number, number>();
let twice: ReceiverStatus[] = [];
hosts.set("/main", async (body, headers) => {
  const number = verifyDelivery(webhook.secret_key, body, headers).first_increment_id;
  const isLost = number % 10 === 5 && !seen.has(number);
  seen.add(number);
  last = { body, headers };
  const receive = (): Promise<ReceiverStatus> => receiver.receive(body, headers);
  let status: ReceiverStatus = 500;
  if (number === 51) {
    twice = await Promise.all([receive(), receive()]);
    status = twice[0] ?? 500;
  } else if (!isLost) {
    status = await receive();
  }
  answers.set(status, (answers.get(status) ?? 0) + 1);
  arrived.add();
  return status;
});

for (let n = 1; n <= 50; n += 1) {
  await client.event.publish("order:created", { n }, { idempotency_key: `order-${n}` });
}
const more = Array.from({ length: 50 }, (_, n) => ({
  topic: "order:paid",
  message: { n: n + 51 },
}));
const receipts = await client.event.publishMany(more);
say("published", 50 + receipts.length);
await arrived.reach(100);
say("arrived", arrived.count);
say("answered 204", answers.get(204));
say("answered 500", answers.get(500));
say("twice at once", twice);
// After a restart it knows what is done, and what is missing.
receiver = makeReceiver();
say("healed", await receiver.heal());
say("nothing left to heal", await receiver.heal());
say("handled once each", new Set(handled).size === 100 && handled.length === 100);
say("errors", errors.map(String));

// What comes again is known, after another restart too.
receiver = makeReceiver();
await client.webhook.replay(webhookId, { from_increment_id: 1, to_increment_id: 5 });
await arrived.reach(105);
say("handled after a replay", handled.length);

// What is not signed is refused, and so is what is signed for another webhook.
if (last === undefined) throw new Error("nothing has come");
const altered = Buffer.from(last.body.toString().replace("order", "0rder"));
say("altered", await receiver.receive(altered, last.headers));
const other = new Receiver({
  secrets: webhook.secret_key,
  client,
  webhookId: 4711,
  handle: () => undefined,
  onError: () => undefined,
});
say("for another webhook", await other.receive(last.body, last.headers));

// Memory is bounded: a number above too many gaps has to come again.
const full = new MemoryStore();
await full.save({
  through: 0,
  beyond: Array.from({ length: 10_000 }, (_, n) => [1000 + 2 * n, 1000 + 2 * n]),
});
const overfull = new Receiver({
  secrets: webhook.secret_key,
  client,
  webhookId,
  store: full,
  handle: () => undefined,
  onError: () => undefined,
});
say("above too many gaps", await overfull.receive(last.body, last.headers));

// The session is renewed: whoever runs this ends it now. Calls at once log in once.
const lines = createInterface(process.stdin)[Symbol.asyncIterator]();
console.log("end the sessions");
await lines.next();
const counts = await Promise.all(Array.from({ length: 5 }, () => client.webhook.count()));
say("after the session's end", counts);

// Faults are classes.
const fault = await client.webhook.get(4711).catch((error: unknown) => error);
if (!(fault instanceof NoWebhookError)) throw fault;
say("fault", [fault.name, fault.number, fault.message]);
const wrong = new Client({ url, username, apiKey: "wrong" });
const refused = await wrong.webhook.list().catch((error: unknown) => error);
say("wrong key", refused instanceof Error ? refused.name : refused);
const misnamed = await client.event.publish("order", {}).catch((error: unknown) => error);
if (!(misnamed instanceof FaultError)) throw misnamed;
say("a wrong field", [misnamed.name, misnamed.data.field]);

// A server that says nothing: a cancellation, and a time-out.
const asked = new Counter();
const silent = createServer((socket) => {
  socket.on("error", () => undefined);
  socket.on("data", () => asked.add());
});
const silentPort = await new Promise<number>((resolve) => {
  silent.listen(0, "127.0.0.1", () => resolve((silent.address() as AddressInfo).port));
});
const deaf = new Client({ url: `http://127.0.0.1:${silentPort}/`, username, apiKey });
const controller = new AbortController();
const waiting = client.delivery.pull(webhookId, {
  after_increment_id: 100,
  wait_ms: 20_000,
  signal: controller.signal,
});
const cancelled = deaf.globalFaults({ signal: controller.signal });
await asked.reach(1);
controller.abort(new Error("enough"));
say("cancelled", await Promise.allSettled([waiting, cancelled]).then((all) => all.map(reasonOf)));
const timeout = await deaf.globalFaults({ timeoutMs: 50 }).catch((error: unknown) => error);
say("timed out", timeout instanceof TimeoutError && timeout instanceof TransportError);

function reasonOf(result: PromiseSettledResult<unknown>): string {
  return result.status === "rejected" ? String(result.reason) : "went well";
}

// An answer is lost on its way, each other time: with a key the publish is repeated, without it is not.
let relayed = 0;
let looks = 0;
const relay = createHttpServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray()).toString();
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  const text = await answer.text();
  if (body.includes("webhook.get")) looks += 1;
  if (body.includes("event.publish") && (relayed += 1) % 2 === 1) request.socket.destroy();
  else response.end(text);
});
const relayPort = await new Promise<number>((resolve) => {
  relay.listen(0, "127.0.0.1", () => resolve((relay.address() as AddressInfo).port));
});
const lossy = new Client({ url: `http://127.0.0.1:${relayPort}/`, username, apiKey, retries: 1 });
const once = await lossy.event.publish("relay:created", {}, { idempotency_key: "once" });
const again = await client.event.publish("relay:created", {}, { idempotency_key: "once" });
const unkeyed = await lossy.event.publish("relay:created", {}).catch((error: unknown) => error);
say("repeated", [relayed, once.event_id === again.event_id, unkeyed instanceof TransportError]);

// Page by page.
const listed: number[] = [];
for await (const delivery of client.delivery.listAll(webhookId, { limit: 7 }))
  listed.push(delivery.increment_id);
say("listed", listed.length === 100 && listed.every((number, n) => number === n + 1));

// Fetched only: a cancelled number is told of, the next one handled.
const pulled = await client.webhook.create({
  topics: "doomed:*",
  delivery_mode: "pull",
  secret_key: "no base64",
});
const tombstones: Tombstone[] = [];
const fetched: number[] = [];
const puller = new Receiver({
  secrets: "no base64",
  client,
  webhookId: pulled.webhook_id,
  // It has been cancelled before this begins.
  start: "beginning",
  handle: (event) => void fetched.push(event.increment_id),
  onTombstone: (tombstone) => void tombstones.push(tombstone),
});
await client.event.publish("doomed:created", { n: 1 });
await client.delivery.cancel(pulled.webhook_id, 1);
await client.event.publish("doomed:created", { n: 2 });
say("pulled", [await puller.heal(), fetched]);
say(
  "tombstones",
  tombstones.map(({ increment_id, state, event }) => [increment_id, state, event?.message]),
);

// In order: number 1 is lost on its way, number 2 makes the receiver fetch it first.
const ordered = await client.webhook.create({ topics: "seq:*", url: `${place}/seq`, retry: [] });
const sequence: number[] = [];
const sequenced = new Counter();
const inOrder = new Receiver({
  secrets: ordered.secret_key,
  client,
  webhookId: ordered.webhook_id,
  // Number 1 may have been given up before this begins.
  start: "beginning",
  inOrder: true,
  handle: (event) => {
    sequence.push(event.increment_id);
    sequenced.add();
  },
});
const lost = new Counter();
hosts.set("/seq", async (body, headers) => {
  if (lost.count > 0) return await inOrder.receive(body, headers);
  lost.add();
  return 500;
});
await client.event.publish("seq:created", {});
await lost.reach(1);
await client.event.publish("seq:created", {});
await sequenced.reach(2);
say("in order", sequence);

// Batches, and a watch that heals by itself.
const batched = await client.webhook.create({
  topics: "bulk:*",
  url: `${place}/bulk`,
  retry: [],
  batch: { max_events: 3, wait_ms: 0 },
});
const bulk = new Counter();
const watcher = new Receiver({
  secrets: batched.secret_key,
  client,
  webhookId: batched.webhook_id,
  patienceMs: 20,
  handle: () => bulk.add(),
});
await watcher.start();
let isFirst = true;
hosts.set("/bulk", async (body, headers) => {
  if (!isFirst) return await watcher.receive(body, headers);
  isFirst = false;
  return 500;
});
await client.event.publishMany(
  Array.from({ length: 10 }, (_, n) => ({ topic: "bulk:created", message: { n } })),
);
await bulk.reach(10);
await watcher.stop();
say("batched", bulk.count);

// A delivery of another store, whose numbers begin anew, is none of those that are done.
const { body: lastBody, headers: lastHeaders } = last;
const storeErrors: unknown[] = [];
let handledOfOne = 0;
function oneOf(name: string, start?: ReceiverOptions["start"]): Receiver {
  return new Receiver({
    secrets: webhook.secret_key,
    client,
    webhookId,
    start,
    store: new FileStore(join(folder, name)),
    handle: () => void (handledOfOne += 1),
    onError: (error) => storeErrors.push(error),
  });
}
const ofOne = await oneOf("store.json", 0).receive(lastBody, lastHeaders);
const { first_increment_id } = verifyDelivery(webhook.secret_key, lastBody, lastHeaders);
const otherId = `msg_another1_${webhookId}_${first_increment_id}`;
const at = String(Math.floor(Date.now() / 1000));
const key = Buffer.from(webhook.secret_key.replace("whsec_", ""), "base64");
const otherBody = lastBody.toString();
const signature = createHmac("sha256", key)
  .update(`${otherId}.${at}.${otherBody}`)
  .digest("base64");
const otherHeaders = {
  "webhook-id": otherId,
  "webhook-timestamp": at,
  "webhook-signature": `v1,${signature}`,
};
const ofOther = await oneOf("store.json").receive(otherBody, otherHeaders);
const againOfOther = await oneOf("store.json").receive(otherBody, otherHeaders);
say("of another store", [ofOne, ofOther, againOfOther, handledOfOne]);

// Whoever knows of another store, or of more numbers than there are, begins anew and goes on.
await settled(webhookId, 100);
const begunAnew: unknown[] = [];
for (const [name, state] of [
  ["another.json", { through: 98, beyond: [], store_id: "another1" }],
  ["ahead.json", { through: 1000, beyond: [] }],
] as const) {
  await new FileStore(join(folder, name)).save(state);
  begunAnew.push(await oneOf(name).heal());
  const saved = await new FileStore(join(folder, name)).load();
  begunAnew.push([saved?.through, saved?.floor]);
}
say("begun anew", [...begunAnew, ...storeErrors.map(nameOf)]);

// That is told once, however often it looks.
const told: string[] = [];
await new FileStore(join(folder, "ahead.json")).save({ through: 1000, beyond: [] });
const watching = new Receiver({
  secrets: webhook.secret_key,
  client: lossy,
  webhookId,
  store: new FileStore(join(folder, "ahead.json")),
  handle: () => void told.push("handled"),
  onError: (error) => told.push(nameOf(error)),
  patienceMs: 1,
  lookEveryMs: 1,
});
await watching.start();
while (looks < 6) await new Promise((resolve) => setTimeout(resolve, 10));
await watching.stop();
say("told once", told);

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : String(error);
}

// What had ended before the receiver began is not fetched, but handled once if it is sent again.
handledOfOne = 0;
const skipping = oneOf("skipped.json");
const skipped = [
  await skipping.receive(lastBody, lastHeaders),
  await skipping.receive(lastBody, lastHeaders),
  await oneOf("skipped.json").receive(lastBody, lastHeaders),
];
const unfetched = await oneOf("skipped.json").heal();
say("skipped, then sent again", [handledOfOne, unfetched, skipped]);

/** Waits until all numbers up to this one have ended. */
async function settled(webhookId: number, through: number): Promise<void> {
  while ((await client.webhook.get(webhookId)).settled_through < through) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// A number that fails does not keep later ones from being fetched, nor does a failing `onError`.
const stuck = await client.webhook.create({ topics: "stuck:*", url: `${place}/stuck`, retry: [] });
hosts.set("/stuck", async () => 500);
const unstuck: number[] = [];
const stuckErrors: string[] = [];
let isStuck = true;
const stuckReceiver = new Receiver({
  secrets: stuck.secret_key,
  client,
  webhookId: stuck.webhook_id,
  start: "beginning",
  handle: (event) => {
    if (event.increment_id === 1 && isStuck) throw new Error("on purpose");
    unstuck.push(event.increment_id);
  },
  onError: (error) => {
    stuckErrors.push(String(error));
    throw new Error("on purpose, and it stands on the console");
  },
});
for (let n = 1; n <= 3; n += 1) await client.event.publish("stuck:created", { n });
await settled(stuck.webhook_id, 3);
say("past a number that fails", [await stuckReceiver.heal(), unstuck, stuckErrors]);
isStuck = false;
say("that number again", [await stuckReceiver.heal(), unstuck]);

// What is nested without sense, or has a number without end, holds up nothing behind it.
const monstrous = await client.webhook.create({
  topics: "monster:*",
  url: `${place}/monster`,
  retry: [],
});
const tamed: number[] = [];
const beheaded: Tombstone[] = [];
const tamer = new Receiver({
  secrets: monstrous.secret_key,
  client,
  webhookId: monstrous.webhook_id,
  start: "beginning",
  inOrder: true,
  handle: (event) => void tamed.push(event.increment_id),
  onTombstone: (tombstone) => void beheaded.push(tombstone),
});
hosts.set("/monster", async (body, headers) => await tamer.receive(body, headers));
const LEVELS = 2_000;
const monsters = [
  `{"deep": ${"[".repeat(LEVELS)}${"]".repeat(LEVELS)}}`,
  `{"long": ${"7".repeat(5_000)}}`,
  "{}",
];
for (const message of monsters) {
  await fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Basic ${Buffer.from(`${username}:${apiKey}`).toString("base64")}`,
    },
    body: `{"jsonrpc": "2.0", "id": 1, "method": "event.publish", "params": [null, "monster:created", ${message}]}`,
  });
}
await settled(monstrous.webhook_id, 3);
await tamer.heal();
say("past what can't be read", [tamed.at(-1), tamed.length + beheaded.length]);

// Events that come again under other numbers are dropped if they are remembered, also after a restart.
const repeats: number[] = [];
const backfilled = (remembered: number): Promise<number> =>
  new Receiver({
    secrets: stuck.secret_key,
    client,
    webhookId: stuck.webhook_id,
    handle: (event) => void repeats.push(event.event_id),
    start: "beginning",
    eventsRemembered: remembered,
    store: new FileStore(join(folder, `repeats-${remembered}.json`)),
  }).heal();
const counted = [await backfilled(3), await backfilled(0), repeats.length, new Set(repeats).size];
await client.webhook.backfill(stuck.webhook_id, { topics: "stuck:*" });
await settled(stuck.webhook_id, 6);
repeats.length = 0;
counted.push(await backfilled(3), repeats.length, await backfilled(0), repeats.length);
say("backfilled", counted);

// The API key is not sent on to where a server redirects.
const redirecting = createHttpServer((_, response) => {
  response.writeHead(307, { location: url }).end();
});
const redirectingPort = await new Promise<number>((resolve) => {
  redirecting.listen(0, "127.0.0.1", () => resolve((redirecting.address() as AddressInfo).port));
});
const astray = new Client({ url: `http://127.0.0.1:${redirectingPort}/`, username, apiKey });
const redirected = await astray.webhook.count().catch((error: unknown) => error);
say("redirected", redirected instanceof TransportError && redirected.message.includes("307"));
redirecting.close();

// What JSON has no words for, and a time-out that never comes.
const unsaid = await client.event
  .publish("relay:created", { n: 1n })
  .catch((error: unknown) => error);
say("can't be said", unsaid instanceof TallyhookError);
say("without an end", await client.webhook.count({ timeoutMs: Infinity }));

// Making a webhook needs its topics; changing one does not.
// @ts-expect-error
void (() => client.webhook.create({ url: place }));
void (() => client.webhook.update(webhookId, { url: place }));

// Subscriptions come back when their connection breaks, and go on after the last number.
const pipes = new Set<Socket>();
const pipe = createServer((near) => {
  const far = connect(Number(new URL(url).port), "127.0.0.1");
  for (const end of [near, far]) {
    pipes.add(end);
    end.on("error", () => undefined);
    end.on("close", () => pipes.delete(end));
  }
  near.pipe(far).pipe(near);
});
const pipePort = await new Promise<number>((resolve) => {
  pipe.listen(0, "127.0.0.1", () => resolve((pipe.address() as AddressInfo).port));
});
const piped = new Client({ url: `http://127.0.0.1:${pipePort}/`, username, apiKey });
const watched = await client.webhook.create({ topics: "watch:*", delivery_mode: "pull" });
const stop = new AbortController();
const events = piped.event.subscribe({ topics: "watch:*", after_event_id: 0, signal: stop.signal });
const deliveries = piped.delivery.subscribe({
  webhook_id: watched.webhook_id,
  after_increment_id: 0,
});

async function tellEvent(): Promise<unknown> {
  const { value } = await events.next();
  if (value === undefined) return "the end";
  return "missed" in value ? value : value.message["n"];
}

async function tellDelivery(): Promise<unknown> {
  const { value } = await deliveries.next();
  if (value === undefined) return "the end";
  return "missed" in value ? value : [value.increment_id, value.state];
}

await client.event.publish("watch:created", { n: 1 });
say("subscribed", [await tellEvent(), await tellDelivery()]);
for (const end of pipes) end.destroy();
await client.event.publish("watch:created", { n: 2 });
say("events after a break", [await tellEvent()]);
say("deliveries after a break", [await tellDelivery(), await tellDelivery()]);
const waitingForMore = events.next();
stop.abort(new Error("enough"));
say("no more events", await Promise.allSettled([waitingForMore]).then((all) => all.map(reasonOf)));
say("left", [await deliveries.return(), await tellDelivery()]);
await client.webhook.delete(watched.webhook_id);
const ofNone = piped.delivery.subscribe({ webhook_id: 4711 });
say("of none", await ofNone.next().catch(nameOf));
const unheard = new Client({ url: "http://127.0.0.1:1/", username, apiKey });
say("nobody there", await unheard.event.subscribe().next().catch(nameOf));
await piped.close();
pipe.close();

// Several calls at once.
say("several", await client.multiCall([["webhook.count"], ["webhook.get", [4711]]], { break: 1 }));
say("by its path", await client.call("webhook.count"));

// What a private key has signed, before the key is replaced and beside its successor.
const keyed = await client.webhook.create({
  topics: "keyed:*",
  url: `${place}/keyed`,
  signing: "ed25519",
});
const before = keyed.public_key ?? "";
let after = "";
const byKey: unknown[] = [];
const keyedArrived = new Counter();
let lastKeyed: { body: Buffer; headers: RequestHeaders } | undefined;
hosts.set("/keyed", async (body, headers) => {
  const receiver = new Receiver({
    secrets: [keyed.secret_key, before],
    client,
    webhookId: keyed.webhook_id,
    start: "beginning",
    handle: () => undefined,
  });
  const status = await receiver.receive(body, headers);
  const holds = (key: string): boolean => {
    try {
      return verifyDelivery(key, body, headers).webhook_id === keyed.webhook_id;
    } catch {
      return false;
    }
  };
  byKey.push([status, holds(before), after !== "" && holds(after)]);
  lastKeyed = { body, headers };
  keyedArrived.add();
  return status;
});
await client.event.publish("keyed:created", {});
await keyedArrived.reach(1);
if (lastKeyed === undefined) throw new Error("nothing has come");
const { body: signedBody, headers: signedHeaders } = lastKeyed;
const refusals = [
  (): unknown => verifyDelivery(before, `${signedBody.toString()} `, signedHeaders),
  (): unknown => verifyDelivery(before, signedBody, { ...signedHeaders, "webhook-timestamp": "1" }),
].map((verify) => {
  try {
    return verify();
  } catch (error) {
    return nameOf(error);
  }
});
byKey.push(refusals);
after = (await client.webhook.rotateSecret(keyed.webhook_id)).public_key ?? "";
await client.event.publish("keyed:created", {});
await keyedArrived.reach(2);
say("by a public key", byKey);
await client.close();
http.close();
silent.close();
relay.close();
process.exit(0);
