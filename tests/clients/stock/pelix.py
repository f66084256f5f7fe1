"""A stock client as it comes: jsonrpclib-pelix. Takes the server's URL, user and API key."""

import json
import sys

import jsonrpclib

url, user, key = sys.argv[1:4]
server = jsonrpclib.ServerProxy(url)


def say(what, value):
    print(f"{what}: {json.dumps(value, separators=(',', ':'))}")


def code(call):
    try:
        return call()
    except jsonrpclib.AppError as error:
        return error.args[0]


session = server.login(user, key)
say("by position", len(session))
named = {"webhook": {"topics": "a:b", "delivery_mode": "pull"}, "return_webhook": 1}
say("by name", server.webhook.create(session=session, **named)["webhook_id"])
receipt = server.call(session, "event.publish", ["a:b", {"n": 1}])
say("through call", receipt["deliveries"])
say("fault", code(lambda: server.webhook.get(session, 4711))[:2])
server._notify.event.publish(session, "a:b", {"n": 2})
say("after a notification", server.webhook.get(session, 1)["increment_id"])
many = server.multiCall(session, [["webhook.count"], ["webhook.get", [4711]]])
say("multiCall", [many[0], many[1]["faultCode"]])
batch = jsonrpclib.MultiCall(server)
batch.webhook.count(session)
batch._notify.event.publish(session, "a:b", {"n": 3})
batch.webhook.get(session, 4711)
results = batch()
say("batch", [results[0], code(lambda: results[1])[0]])
say("after a batch", server.webhook.get(session, 1)["increment_id"])
say("end", server.endSession(session))
