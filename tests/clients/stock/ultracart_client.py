"""UltraCart's own client as it comes: ultracart_rest_sdk. It raises where a type is not what its models say, also at
a null. Takes the server's URL, user, API key, and the URL of a receiver."""

import json
import sys
import urllib.request

from ultracart.api_client import ApiClient
from ultracart.apis import WebhookApi
from ultracart.configuration import Configuration
from ultracart.exceptions import ApiException
from ultracart.models import Webhook, WebhookEventCategory, WebhookEventSubscription

url, user, key, receiver = sys.argv[1:5]


def api(key):
    configuration = Configuration(host=f"{url.rstrip('/')}/rest/v2")
    configuration.api_key["x-ultracart-simple-key"] = key
    client = ApiClient(configuration, header_name="X-UltraCart-Api-Version", header_value="2017-03-01")
    return WebhookApi(client)


def say(what, *values):
    print(f"{what}: {json.dumps(values, separators=(',', ':'))}", flush=True)


def publish(topic, message):
    call = {"jsonrpc": "2.0", "id": 1, "method": "event.publish", "params": ["", topic, message]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(call).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["result"]["deliveries"]


def refused(call):
    try:
        return ["not refused", call()]
    except ApiException as refusal:
        error = json.loads(refusal.body)["error"]
        return [refusal.status, error["error_code"], refusal.headers["UC-REST-ERROR"] == error["developer_message"]]


webhooks = api(key)
categories = webhooks.get_webhook_event_categories().event_categories
say("categories", len(categories), sum(len(category.events) for category in categories))

events = [
    WebhookEventSubscription(event_name="order_create", expansion="items"),
    WebhookEventSubscription(event_name="order_update", subscribed=True),
    WebhookEventSubscription(event_name="order_delete", subscribed=False),
]
webhook = Webhook(
    webhook_url=receiver,
    authentication_type="basic",
    maximum_events=10,
    maximum_size=5242880,
    api_version="2017-03-01",
    compress_events=True,
    event_categories=[WebhookEventCategory(event_category="order", events=events)],
)
made = webhooks.insert_webhook(webhook, placeholders=False).webhook
say("inserted", made.webhook_oid, made.authentication_type, len(made.basic_username), len(made.basic_password))
say("subscribed", [event.event_name for category in made.event_categories for event in category.events])

# As their samples page, and change a webhook.
page = webhooks.get_webhooks(limit=200, offset=0, sort="-webhook_url", placeholders=True)
result_set = page.metadata.result_set
say("listed", result_set.count, result_set.total_records, result_set.more, len(page.webhooks[0].event_categories))
found = next(each for each in page.webhooks if each.webhook_oid == made.webhook_oid)
found.basic_password = "LlamaLlamaRedPajama"
found.compress_events = False
changed = webhooks.update_webhook(webhook_oid=found.webhook_oid, webhook=found).webhook
say("updated", changed.basic_username == made.basic_username, changed.basic_password, changed.compress_events)
say("subscribed", [event.event_name for category in changed.event_categories for event in category.events])

say("published", publish("order:created", {"order_id": "DEMO-1", "items": [], "billing": {}}))
# The receiver has it, says the one who runs this.
sys.stdin.readline()
summaries = webhooks.get_webhook_log_summaries(
    made.webhook_oid, limit=200, offset=0, since="2020-01-01T00:00:00+00:00", success=True, event="order_create"
).webhook_log_summaries
say("summaries", [[each.success, each.status_code, each.event_names, each.order_ids] for each in summaries])
log = webhooks.get_webhook_log(made.webhook_oid, summaries[0].request_id).webhook_log
say("log", log.webhook_oid, log.uri == receiver, log.request)
sent = {header.name: header.value for header in log.request_headers}
say("headers", sent["authorization"], sent["tallyhook-increment-id"])

answer = webhooks.resend_event(made.webhook_oid, "order_create")
say("reflow", answer.reflow.event_name, answer.reflow.queued, answer.success)

say("deleted by URL", webhooks.delete_webhook_by_url(Webhook(webhook_url=receiver)).webhook.webhook_oid)
again = webhooks.insert_webhook(Webhook(webhook_url=receiver)).webhook
say("deleted", webhooks.delete_webhook(again.webhook_oid), len(webhooks.get_webhooks().webhooks))

say("no such webhook", *refused(lambda: webhooks.delete_webhook(4711)))
say("no such authentication", *refused(lambda: webhooks.insert_webhook(
    Webhook(webhook_url=receiver, authentication_type="api user"))))
say("no such key", *refused(lambda: api("wrong").get_webhooks()))
