"""Runs the examples of this folder and of rest/: the part of ./run that reads JSON.

Requests go through curl. README.md describes the grammar of the examples.
"""

import argparse
import base64
import difflib
import http.server
import json
import pathlib
import re
import secrets
import subprocess
import sys
import threading
import time
import typing
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
REQUEST_TIMEOUT_S = 30
POLL_INTERVAL_S = 0.1
SHOWN_CHARS_MAX = 300

# What a placeholder of a response stands for, as text.
SHAPES = {
    "<any>": r"(?s:.*)",
    "<string>": r"(?s:.*)",
    "<int>": r"-?[0-9]+",
    "<number>": r"-?[0-9]+(\.[0-9]+)?",
    "<time>": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z",
    "<date>": r"[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}",
    "<session>": r"[0-9a-f]{32}",
    "<secret>": r"whsec_[A-Za-z0-9+/]{43}=",
}
SHAPE = re.compile("(" + "|".join(map(re.escape, SHAPES)) + ")")
VARIABLE = re.compile(r"\$\{(\w+)\}")
NOTHING = object()


class Unusable(Exception):
    """The examples can't be run at all."""


class Failed(Exception):
    """An example got another answer than it should have; holds lines that say where."""

    def __init__(self, lines):
        super().__init__("\n".join(lines))
        self.lines = lines


def shown(value):
    """A value as the report prints it."""
    if value is NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def differences(expected, got, where=""):
    """Where `got` is not what `expected` describes: lines with a JSON pointer each."""
    differs = [f"{where or '/'}: expected {shown(expected)}, got {shown(got)}"]
    if expected == "<any>":
        return []
    if isinstance(expected, str):
        return [] if value_matches(expected, got) else differs
    if type(expected) is not type(got):
        return differs
    if isinstance(expected, dict):
        lines = []
        for member in [*expected, *(member for member in got if member not in expected)]:
            below = f"{where}/{member}"
            if member in expected and member in got:
                lines += differences(expected[member], got[member], below)
            else:
                lines.append(f"{below}: expected {shown(expected.get(member, NOTHING))}, got {shown(got.get(member, NOTHING))}")
        return lines
    if isinstance(expected, list):
        return list_differences(expected, got, where)
    return [] if expected == got else differs


def value_matches(expected, got):
    if expected == "<int>":
        return type(got) is int
    if expected == "<number>":
        return type(got) in (int, float)
    return isinstance(got, str) and text_matches(expected, got)


def text_matches(expected, got):
    parts = (SHAPES.get(part) or re.escape(part) for part in SHAPE.split(expected))
    return re.fullmatch("".join(parts), got) is not None


def text_differences(expected, got, where):
    """The same of a text that is no JSON, where even a number is one."""
    if got is not NOTHING and text_matches(expected, got):
        return []
    return [f"{where}: expected {shown(expected)}, got {shown(got)}"]


def list_differences(expected, got, where):
    """Item by item; "<more>" first or last stands for any number of further items."""
    more_before = expected[:1] == ["<more>"]
    more_after = expected[1:][-1:] == ["<more>"]
    items = expected[more_before : len(expected) - more_after]
    spare = len(got) - len(items)
    if spare < 0 or (spare > 0 and not (more_before or more_after)):
        return [f"{where or '/'}: expected {len(items)} items, got {len(got)}: {shown(got)}"]
    offsets = range(spare + 1) if more_before and more_after else [spare if more_before else 0]
    for offset in offsets:
        lines = [
            line
            for index, item in enumerate(items, offset)
            for line in differences(item, got[index], f"{where}/{index}")
        ]
        if not lines:
            return []
    return lines


def pointed_at(pointer, document):
    """The value at a JSON pointer (RFC 6901); -1 is an array's last item."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def tells_error(text):
    """True if an answer has an error in it, whatever its status."""
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("error") is not None


class Receiver:
    """Answers 204 to every POST, or NNN below the path /NNN."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked = re.match(r"/([1-5][0-9][0-9])(?:/|$)", self.path)
            status = int(asked[1]) if asked else 204
            self.send_response(status)
            if status != 204:
                self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


class Answer(typing.NamedTuple):
    """What a request got; the names of headers are in lower case."""

    status: int
    headers: dict
    text: str


class Client:
    """One server, and who talks to it."""

    def __init__(self, url, user, key, merchant):
        self.url, self.user, self.key, self.merchant = url.rstrip("/"), user, key, merchant

    def send(self, method, path, headers, body):
        """Sends a request; a body is JSON unless the headers say otherwise, and None is none."""
        command = ["curl", "-q", "--silent", "--show-error", "--max-time", str(REQUEST_TIMEOUT_S)]
        command += ["--noproxy", "localhost,127.0.0.1,::1", "--request", method, "--globoff"]
        # The answer's head comes before its body, and no other head before that.
        command += ["--include", "--suppress-connect-headers", "--header", "expect:"]
        if body is not None:
            command += ["--data-binary", "@-"]
            if "content-type" not in map(str.lower, headers):
                headers = {"content-type": "application/json", **headers}
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        done = subprocess.run([*command, self.url + path], input=(body or "").encode(), capture_output=True)
        if done.returncode != 0:
            raise Failed([done.stderr.decode(errors="replace").strip() or f"curl: status {done.returncode}"])
        head, _, text = done.stdout.decode(errors="replace").partition("\r\n\r\n")
        status_line, *lines = head.split("\r\n")
        named = (line.partition(":") for line in lines)
        return Answer(int(status_line.split()[1]), {name.lower(): value.strip() for name, _, value in named}, text)

    def post(self, request):
        """Sends a JSON-RPC request."""
        return self.send("POST", "/", {}, json.dumps({"jsonrpc": "2.0", "id": 1, **request}))

    def login(self):
        """A session key. Fails with `Unusable`, for nothing works without one."""
        try:
            answer = self.post({"method": "login", "params": [self.user, self.key]})
        except Failed as failed:
            raise Unusable(f"{failed}\nIs a server running there? To start one: cargo run --release -- serve --dev")
        try:
            answered = json.loads(answer.text)
            if "result" in answered:
                return answered["result"]
            raise Unusable(f"{self.user} can't log in: {answered['error']['message']}\nName a user with --user and --key.")
        except (ValueError, KeyError, TypeError):
            raise Unusable(f"{self.url} is no tallyhook: it answered {answer.status} {answer.text[:SHOWN_CHARS_MAX]!r}")

    def logout(self, session):
        self.post({"method": "endSession", "params": [session]})


class Run:
    """One example on its way, with what its steps have saved."""

    def __init__(self, examples, client, receiver):
        self.examples, self.client = examples, client
        self.session = None
        self.after = []
        unique = secrets.token_hex(6)
        self.values = {
            "user": client.user,
            "key": client.key,
            "merchant": client.merchant,
            "basic": base64.b64encode(f"{client.user}:{client.key}".encode()).decode(),
            "receiver": receiver,
            "run": unique,
            "topic": f"example:{unique}",
        }

    def run(self, example):
        """Fails with `Failed`; cleans up in any case."""
        try:
            self.steps(example)
        finally:
            for step in reversed(self.after):
                try:
                    self.exchange(step)
                except Failed:
                    pass  # Often there is nothing left to clean up.
            if self.session:
                self.client.logout(self.session)

    def steps(self, example):
        for number, step in enumerate(example.get("before", []), 1):
            named = self.examples[step] if isinstance(step, str) else step
            label = step if isinstance(step, str) else "inline"
            try:
                self.steps(named)
            except Failed as failed:
                raise Failed([f"before, step {number} ({label}): {line}" for line in failed.lines])
        self.after += reversed(example.get("after", []))
        for _ in range(example.get("times", 1)):
            self.exchange(example)

    def exchange(self, example):
        """Sends the request, until its answer is right or its time is over, and saves from the answer."""
        deadline = time.monotonic() + example.get("wait_ms", 0) / 1000
        while True:
            answer = self.send(example)
            lines = self.judge(example, answer)
            if not lines:
                break
            if time.monotonic() >= deadline:
                raise Failed(lines)
            time.sleep(POLL_INTERVAL_S)
        for name, pointer in example.get("save", {}).items():
            try:
                self.values[name] = pointed_at(pointer, json.loads(answer.text))
            except (ValueError, LookupError, TypeError):
                raise Failed([f"{pointer}: nothing there to save as {name}, in {answer.text[:SHOWN_CHARS_MAX]}"])

    def send(self, example):
        body = None
        if "request_text" in example:
            body = self.fill_text(example["request_text"])
        elif "request" in example:
            body = json.dumps(self.fill(example["request"]), ensure_ascii=False, separators=(",", ":"))
        path = self.fill_text(example.get("path", "/"), lambda value: urllib.parse.quote(value, safe=""))
        headers = {name: self.fill_text(value) for name, value in example.get("headers", {}).items()}
        return self.client.send(example.get("method", "POST"), path, headers, body)

    def judge(self, example, answer):
        """What is wrong with an answer; nothing if it is right."""
        lines = []
        if not {"status", "response", "response_text"}.isdisjoint(example):
            status = example.get("status", 200)
            if answer.status != status:
                lines.append(f"HTTP status: expected {status}, got {answer.status}")
        elif answer.status // 100 != 2:
            lines.append(f"HTTP status: expected 2xx, got {answer.status}")
        for name, value in example.get("response_headers", {}).items():
            got = answer.headers.get(name.lower(), NOTHING)
            lines += text_differences(self.fill_text(value), got, f"header {name}")
        if "response_text" in example:
            return lines + text_differences(self.fill_text(example["response_text"]), answer.text, "body")
        if "response" in example:
            try:
                return lines + differences(self.fill(example["response"]), json.loads(answer.text))
            except ValueError:
                return [*lines, f"body: expected JSON, got {shown(answer.text)}"]
        if tells_error(answer.text):
            lines.append(f"/error: expected none, got {shown(answer.text)}")
        return lines

    def fill(self, value):
        """Puts values in the place of ${names}; a string that is nothing but one takes the value's type."""
        if isinstance(value, dict):
            return {name: self.fill(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, str):
            return value
        whole = VARIABLE.fullmatch(value)
        return self.value(whole[1]) if whole else self.fill_text(value)

    def fill_text(self, text, write=str):
        """Puts values in the place of ${names}, each as `write` has it."""
        return VARIABLE.sub(lambda found: write(str(self.value(found[1]))), text)

    def value(self, name):
        if name == "session":
            self.session = self.session or self.client.login()
            return self.session
        if name not in self.values:
            raise Failed([f"${{{name}}}: no step has saved it"])
        return self.values[name]


def load():
    examples = {}
    paths = [*HERE.glob("*.json"), *HERE.glob("rest/*.json")]
    for path in sorted(paths, key=lambda path: path.stem):
        example = json.loads(path.read_text(encoding="utf-8"))
        if example["name"] != path.stem:
            raise Unusable(f"{path.name}: its name is {example['name']!r}, unlike its file")
        if path.stem in examples:
            raise Unusable(f"there are two examples {path.stem!r}")
        examples[example["name"]] = example
    return examples


def selected(examples, names):
    for name in names:
        if name not in examples:
            close = difflib.get_close_matches(name, examples, n=3)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise Unusable(f"there is no example {name!r}{hint}")
    return [example for name, example in examples.items() if not names or name in names]


def main():
    parser = argparse.ArgumentParser(prog="rpc-examples/run", add_help=False)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080")
    parser.add_argument("--user", default="demo")
    parser.add_argument("--key", default="demo-key")
    parser.add_argument("--merchant", default="demo")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--receiver")
    options = parser.parse_args()

    examples = load()
    chosen = selected(examples, options.only)
    client = Client(options.url, options.user, options.key, options.merchant)
    client.logout(client.login())
    receiver = options.receiver or Receiver().url

    passed, failed, width = 0, 0, max(map(len, examples))
    for example in chosen:
        name = example["name"]
        if "needs" in example:
            print(f"needs {name:{width}}  {example['needs']}, covered by cargo test", flush=True)
            continue
        try:
            Run(examples, client, receiver).run(example)
            passed += 1
            print(f"ok    {name}", flush=True)
        except Failed as failure:
            failed += 1
            print(f"FAIL  {name}", flush=True)
            for line in failure.lines:
                print(f"        {line}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as problem:
        print(f"rpc-examples/run: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
