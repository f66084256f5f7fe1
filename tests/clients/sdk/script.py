"""What `tests/clients/sdk.rs` runs with the package for Python; script.ts does the same in TypeScript.

Takes the server's URL, user, API key, and a folder; prints what it has seen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, List, Literal, Set, Tuple

from tallyhook import (
    CallCancelledError,
    CallTimeoutError,
    Cancellation,
    Client,
    FaultError,
    FileStore,
    MemoryStore,
    NoWebhookError,
    ReceivedEvent,
    Receiver,
    ReceiverState,
    RequestHeaders,
    SignatureError,
    TallyhookError,
    Tombstone,
    TransportError,
    verify_delivery,
)

PATIENCE = 60
url, username, api_key, folder = sys.argv[1:5]
client = Client(url, username, api_key, retries=2)

Host = Callable[[bytes, RequestHeaders], int]
hosts: Dict[str, Host] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(hosts[self.path](body, self.headers))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


http = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=http.serve_forever, daemon=True).start()
place = f"http://127.0.0.1:{http.server_port}"


class Counter:
    """Counts, and tells when a count is reached."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def reach(self, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.count >= count, PATIENCE):
                raise AssertionError(f"{self.count} of {count} came")


def say(what: str, value: object) -> None:
    print(f"{what}: {json.dumps(value, separators=(',', ':'))}", flush=True)


# A hundred events, of which ten are lost on the way, and one meets a handler that fails.
webhook = client.webhook.create({"topics": "order:*", "url": f"{place}/main", "retry": []})
webhook_id = webhook["webhook_id"]
handled: List[int] = []
arrived = Counter()
errors: List[Exception] = []
failed: List[int] = []


def handle(event: ReceivedEvent) -> None:
    number = event["increment_id"]
    if event["message"]["n"] != number:
        raise AssertionError("another event")
    if number == 50 and not failed:
        failed.append(number)
        raise ValueError("on purpose")
    handled.append(number)


def make_receiver() -> Receiver:
    return Receiver(
        ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", webhook["secret_key"]],
        client,
        webhook_id,
        handle,
        store=FileStore(os.path.join(folder, "state.json")),
        on_error=errors.append,
    )


receiver = make_receiver()
lock = threading.Lock()
seen: Set[int] = set()
answers: Dict[int, int] = {}
twice: List[int] = []
last: Tuple[bytes, RequestHeaders] | None = None


def host_main(body: bytes, headers: RequestHeaders) -> int:
    global last
    number = verify_delivery(webhook["secret_key"], body, headers).first_increment_id
    with lock:
        is_lost = number % 10 == 5 and number not in seen
        seen.add(number)
        last = (body, headers)
    status = 500
    if number == 51:
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(receiver.receive, body, headers) for _ in range(2)]
            twice.extend(one.result() for one in both)
        status = twice[0]
    elif not is_lost:
        status = receiver.receive(body, headers)
    with lock:
        answers[status] = answers.get(status, 0) + 1
    arrived.add()
    return status


hosts["/main"] = host_main
for n in range(1, 51):
    client.event.publish("order:created", {"n": n}, idempotency_key=f"order-{n}")
receipts = client.event.publish_many(
    [{"topic": "order:paid", "message": {"n": n}} for n in range(51, 101)]
)
say("published", 50 + len(receipts))
arrived.reach(100)
say("arrived", arrived.count)
say("answered 204", answers.get(204))
say("answered 500", answers.get(500))
say("twice at once", twice)
# After a restart it knows what is done, and what is missing.
receiver = make_receiver()
say("healed", receiver.heal())
say("nothing left to heal", receiver.heal())
say("handled once each", sorted(handled) == list(range(1, 101)))
say("errors", [f"Error: {error}" for error in errors])

# What comes again is known, after another restart too.
receiver = make_receiver()
client.webhook.replay(webhook_id, from_increment_id=1, to_increment_id=5)
arrived.reach(105)
say("handled after a replay", len(handled))

# What is not signed is refused, and so is what is signed for another webhook.
if last is None:
    raise AssertionError("nothing has come")
altered = last[0].replace(b"order", b"0rder", 1)
say("altered", receiver.receive(altered, last[1]))
other = Receiver(webhook["secret_key"], client, 4711, lambda _: None, on_error=lambda _: None)
say("for another webhook", other.receive(*last))

# Memory is bounded: a number above too many gaps has to come again.
full = MemoryStore()
full.save(ReceiverState(0, tuple((n, n) for n in range(1000, 21_000, 2))))
overfull = Receiver(
    webhook["secret_key"],
    client,
    webhook_id,
    lambda _: None,
    store=full,
    on_error=lambda _: None,
)
say("above too many gaps", overfull.receive(*last))

# The session is renewed: whoever runs this ends it now. Calls at once log in once.
print("end the sessions", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(5) as pool:
    counts = list(pool.map(lambda _: client.webhook.count(), range(5)))
say("after the session's end", counts)

# Faults are classes.
try:
    client.webhook.get(4711)
except NoWebhookError as fault:
    say("fault", [type(fault).__name__, fault.number, fault.message])
try:
    with Client(url, username, "wrong") as wrong:
        wrong.webhook.list()
except TallyhookError as error:
    say("wrong key", type(error).__name__)
try:
    client.event.publish("order", {})
except FaultError as error:
    say("a wrong field", [type(error).__name__, error.field])

# A server that says nothing: a cancellation, and a time-out.
asked = Counter()
silent = socket.create_server(("127.0.0.1", 0))
held: List[socket.socket] = []


def hold() -> None:
    while True:
        connection, _ = silent.accept()
        held.append(connection)
        connection.recv(1)
        asked.add()


threading.Thread(target=hold, daemon=True).start()
deaf = Client(f"http://127.0.0.1:{silent.getsockname()[1]}/", username, api_key)
cancellation = Cancellation()


def reason(call: Callable[[], object]) -> str:
    try:
        call()
    except CallCancelledError:
        return "Error: enough"
    return "went well"


def wait() -> object:
    return client.delivery.pull(
        webhook_id, after_increment_id=100, wait_ms=20_000, cancellation=cancellation
    )


with ThreadPoolExecutor(2) as pool:
    calls: List[Callable[[], object]] = [
        wait,
        lambda: deaf.global_faults(cancellation=cancellation),
    ]
    reasons = pool.map(reason, calls)
    asked.reach(1)
    cancellation.cancel()
    say("cancelled", list(reasons))
try:
    deaf.global_faults(timeout=0.05)
except TransportError as error:
    say("timed out", isinstance(error, CallTimeoutError) and isinstance(error, TimeoutError))

# An answer is lost on its way, each other time: with a key the publish is repeated, without it is
# not.
relayed, looks = Counter(), Counter()


class Relay(Handler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            text = response.read()
        if b"webhook.get" in body:
            looks.add()
        if b"event.publish" in body:
            relayed.add()
            if relayed.count % 2 == 1:
                self.close_connection = True
                return
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


relay = Server(("127.0.0.1", 0), Relay)
threading.Thread(target=relay.serve_forever, daemon=True).start()
lossy = Client(f"http://127.0.0.1:{relay.server_port}/", username, api_key, retries=1)
once = lossy.event.publish("relay:created", {}, idempotency_key="once")
again = client.event.publish("relay:created", {}, idempotency_key="once")
try:
    lossy.event.publish("relay:created", {})
except TransportError:
    say("repeated", [relayed.count, once["event_id"] == again["event_id"], True])

# Page by page.
listed = [item["increment_id"] for item in client.delivery.list_all(webhook_id, limit=7)]
say("listed", listed == list(range(1, 101)))

# Fetched only: a cancelled number is told of, the next one handled.
pulled = client.webhook.create(
    {"topics": "doomed:*", "delivery_mode": "pull", "secret_key": "no base64"}
)
tombstones: List[Tombstone] = []
fetched: List[int] = []
puller = Receiver(
    "no base64",
    client,
    pulled["webhook_id"],
    lambda event: fetched.append(event["increment_id"]),
    on_tombstone=tombstones.append,
    # It has been cancelled before this begins.
    start="beginning",
)
client.event.publish("doomed:created", {"n": 1})
client.delivery.cancel(pulled["webhook_id"], 1)
client.event.publish("doomed:created", {"n": 2})
say("pulled", [puller.heal(), fetched])
say("tombstones", [[t.increment_id, t.state, t.event and t.event["message"]] for t in tombstones])

# In order: number 1 is lost on its way, number 2 makes the receiver fetch it first.
ordered = client.webhook.create({"topics": "seq:*", "url": f"{place}/seq", "retry": []})
sequence: List[int] = []
sequenced = Counter()


def handle_in_order(event: ReceivedEvent) -> None:
    sequence.append(event["increment_id"])
    sequenced.add()


in_order = Receiver(
    ordered["secret_key"],
    client,
    ordered["webhook_id"],
    handle_in_order,
    # Number 1 may have been given up before this begins.
    start="beginning",
    in_order=True,
)
lost = Counter()


def host_seq(body: bytes, headers: RequestHeaders) -> int:
    if lost.count > 0:
        return in_order.receive(body, headers)
    lost.add()
    return 500


hosts["/seq"] = host_seq
client.event.publish("seq:created", {})
lost.reach(1)
client.event.publish("seq:created", {})
sequenced.reach(2)
say("in order", sequence)

# Batches, and a watch that heals by itself.
batched = client.webhook.create(
    {
        "topics": "bulk:*",
        "url": f"{place}/bulk",
        "retry": [],
        "batch": {"max_events": 3, "wait_ms": 0},
    }
)
bulk = Counter()
watcher = Receiver(
    batched["secret_key"],
    client,
    batched["webhook_id"],
    lambda _: bulk.add(),
    patience=0.02,
)
watcher.start()
first = Counter()


def host_bulk(body: bytes, headers: RequestHeaders) -> int:
    if first.count > 0:
        return watcher.receive(body, headers)
    first.add()
    return 500


hosts["/bulk"] = host_bulk
client.event.publish_many([{"topic": "bulk:created", "message": {"n": n}} for n in range(10)])
bulk.reach(10)
watcher.stop()
say("batched", bulk.count)

# A delivery of another store, whose numbers begin anew, is none of those that are done.
store_errors: List[Exception] = []
handled_of_one: List[int] = []


def one_of(name: str, start: Literal["settled"] | int = "settled") -> Receiver:
    return Receiver(
        webhook["secret_key"],
        client,
        webhook_id,
        lambda event: handled_of_one.append(event["increment_id"]),
        start=start,
        store=FileStore(os.path.join(folder, name)),
        on_error=store_errors.append,
    )


of_one = one_of("store.json", 0).receive(*last)
number = verify_delivery(webhook["secret_key"], *last).first_increment_id
other_id, at = f"msg_another1_{webhook_id}_{number}", str(int(time.time()))
key = base64.b64decode(webhook["secret_key"].removeprefix("whsec_"))
signed = b".".join((other_id.encode(), at.encode(), last[0]))
signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
other_headers = {
    "webhook-id": other_id,
    "webhook-timestamp": at,
    "webhook-signature": f"v1,{signature}",
}
of_other = one_of("store.json").receive(last[0], other_headers)
again_of_other = one_of("store.json").receive(last[0], other_headers)
say("of another store", [of_one, of_other, again_of_other, len(handled_of_one)])


def settle(webhook_id: int, through: int) -> None:
    """Waits until all numbers up to this one have ended."""
    while client.webhook.get(webhook_id)["settled_through"] < through:
        time.sleep(0.01)


# Whoever knows of another store, or of more numbers than there are, begins anew and goes on.
settle(webhook_id, 100)
another, ahead = ReceiverState(98, store_id="another1"), ReceiverState(1000)
begun_anew: List[object] = []
for name, state in (("another.json", another), ("ahead.json", ahead)):
    FileStore(os.path.join(folder, name)).save(state)
    begun_anew.append(one_of(name).heal())
    saved = FileStore(os.path.join(folder, name)).load()
    begun_anew.append(None if saved is None else [saved.through, saved.floor])
names = [type(error).__name__ for error in store_errors]
say("begun anew", [*begun_anew, *names])

# That is told once, however often it looks.
told: List[str] = []
FileStore(os.path.join(folder, "ahead.json")).save(ahead)
watching = Receiver(
    webhook["secret_key"],
    lossy,
    webhook_id,
    lambda event: told.append("handled"),
    store=FileStore(os.path.join(folder, "ahead.json")),
    on_error=lambda error: told.append(type(error).__name__),
    patience=0.001,
    look_every=0.001,
)
watching.start()
looks.reach(6)
watching.stop()
say("told once", told)

# What had ended before the receiver began is not fetched, but handled once if it is sent again.
handled_of_one.clear()
skipping = one_of("skipped.json")
skipped = [
    skipping.receive(*last),
    skipping.receive(*last),
    one_of("skipped.json").receive(*last),
]
unfetched = one_of("skipped.json").heal()
say("skipped, then sent again", [len(handled_of_one), unfetched, skipped])

# A number that fails does not keep later ones from being fetched, nor does a failing `on_error`.
stuck = client.webhook.create({"topics": "stuck:*", "url": f"{place}/stuck", "retry": []})
hosts["/stuck"] = lambda _, __: 500
unstuck: List[int] = []
stuck_errors: List[str] = []
is_stuck = True


def handle_stuck(event: ReceivedEvent) -> None:
    if event["increment_id"] == 1 and is_stuck:
        raise ValueError("on purpose")
    unstuck.append(event["increment_id"])


def fail_at_error(error: Exception) -> None:
    stuck_errors.append(f"Error: {error}")
    raise ValueError("on purpose, and it is logged")


stuck_receiver = Receiver(
    stuck["secret_key"],
    client,
    stuck["webhook_id"],
    handle_stuck,
    start="beginning",
    on_error=fail_at_error,
)
for n in range(1, 4):
    client.event.publish("stuck:created", {"n": n})
settle(stuck["webhook_id"], 3)
say("past a number that fails", [stuck_receiver.heal(), unstuck, stuck_errors])
is_stuck = False
say("that number again", [stuck_receiver.heal(), unstuck])

# What Python can't read, when it comes and when it is fetched, holds up nothing behind it.
monstrous = client.webhook.create({"topics": "monster:*", "url": f"{place}/monster", "retry": []})
tamed: List[int] = []
monster_errors: List[str] = []
beheaded: List[Tombstone] = []
tamer = Receiver(
    monstrous["secret_key"],
    client,
    monstrous["webhook_id"],
    lambda event: tamed.append(event["increment_id"]),
    on_tombstone=beheaded.append,
    on_error=lambda error: monster_errors.append(type(error).__name__),
    start="beginning",
    in_order=True,
)
hosts["/monster"] = tamer.receive
LEVELS = 2_000


def publish_raw(message: str) -> None:
    """Past what Python itself could say."""
    params = f'[null, "monster:created", {message}]'
    body = f'{{"jsonrpc": "2.0", "id": 1, "method": "event.publish", "params": {params}}}'
    basic = base64.b64encode(f"{username}:{api_key}".encode()).decode()
    headers = {"content-type": "application/json", "authorization": f"Basic {basic}"}
    urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=PATIENCE)


for message in (
    '{"deep": ' + "[" * LEVELS + "]" * LEVELS + "}",
    '{"long": ' + "7" * 5_000 + "}",
    "{}",
):
    publish_raw(message)
settle(monstrous["webhook_id"], 3)
tamer.heal()
assert [tombstone.increment_id for tombstone in beheaded if tombstone.event is None][-1] == 2
assert set(monster_errors) == {"UnreadableError"}
say("past what can't be read", [tamed[-1], len(tamed) + len(beheaded)])


# Events that come again under other numbers are dropped if they are remembered, also after a restart.
def backfilled(remembered: int) -> Receiver:
    return Receiver(
        stuck["secret_key"],
        client,
        stuck["webhook_id"],
        lambda event: repeats.append(event["event_id"]),
        start="beginning",
        events_remembered=remembered,
        store=FileStore(os.path.join(folder, f"repeats-{remembered}.json")),
    )


repeats: List[int] = []
counted = [backfilled(3).heal(), backfilled(0).heal(), len(repeats), len(set(repeats))]
client.webhook.backfill(stuck["webhook_id"], topics="stuck:*")
settle(stuck["webhook_id"], 6)
repeats.clear()
counted += [backfilled(3).heal(), len(repeats), backfilled(0).heal(), len(repeats)]
say("backfilled", counted)


# The API key is not sent on to where a server redirects.
class Redirecting(Handler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(307)
        self.send_header("location", url)
        self.send_header("content-length", "0")
        self.end_headers()


redirecting = Server(("127.0.0.1", 0), Redirecting)
threading.Thread(target=redirecting.serve_forever, daemon=True).start()
astray = Client(f"http://127.0.0.1:{redirecting.server_port}/", username, api_key)
try:
    astray.webhook.count()
except TransportError as error:
    say("redirected", "307" in str(error))

# What JSON has no words for, and a time-out that never comes.
unsaid: List[bool] = []
for value in (float("nan"), "\ud800", object()):
    try:
        client.event.publish("relay:created", {"n": value})
    except TallyhookError:
        unsaid.append(True)
say("can't be said", unsaid == [True] * 3)
say("without an end", client.webhook.count(timeout=float("inf")))

# Several calls at once.
say("several", client.multi_call([["webhook.count"], ["webhook.get", [4711]]], break_=1))
say("by its path", client.call("webhook.count"))

# What a private key has signed, before the key is replaced and beside its successor.
keyed = client.webhook.create(
    {"topics": "keyed:*", "url": f"{place}/keyed", "signing": "ed25519"}
)
before = keyed["public_key"] or ""
after: List[str] = []
by_key: List[object] = []
keyed_arrived = Counter()
last_keyed: List[Tuple[bytes, RequestHeaders]] = []


def holds(key: str, body: bytes, headers: RequestHeaders) -> bool:
    try:
        return verify_delivery(key, body, headers).webhook_id == keyed["webhook_id"]
    except SignatureError:
        return False


def host_keyed(body: bytes, headers: RequestHeaders) -> int:
    secrets = [keyed["secret_key"], before]
    receiver = Receiver(secrets, client, keyed["webhook_id"], lambda _: None, start="beginning")
    status = receiver.receive(body, headers)
    held = [holds(key, body, headers) for key in (before, *after)]
    by_key.append([status, *held] if after else [status, *held, False])
    last_keyed.append((body, headers))
    keyed_arrived.add()
    return status


hosts["/keyed"] = host_keyed
client.event.publish("keyed:created", {})
keyed_arrived.reach(1)
signed_body, signed_headers = last_keyed[0]
too_old = {**dict(signed_headers.items()), "webhook-timestamp": "1"}
refusals: List[str] = []
for wrong_body, wrong_headers in ((signed_body + b" ", signed_headers), (signed_body, too_old)):
    try:
        verify_delivery(before, wrong_body, wrong_headers)
    except SignatureError as error:
        refusals.append(type(error).__name__)
by_key.append(refusals)
after.append(client.webhook.rotate_secret(keyed["webhook_id"])["public_key"] or "")
client.event.publish("keyed:created", {})
keyed_arrived.reach(2)
say("by a public key", by_key)
client.close()
