"""What a schema can't say of the REST dialects, each with its reason.

Schemathesis holds that what fits the schema is taken, and what does not is
refused. These two checks stand in for its own, and let pass what is meant to
be otherwise; for all the rest they ask its own.
"""

import json
import re

import schemathesis
from schemathesis.core.jsonschema import make_validator
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

# Refusals of what fits the schema, by what the answer says.
REFUSED = [
    # How many rows there are is no matter of the schema, and clients depend on the words.
    "Offset amount exceeds the total number of records",
    # How many subscriptions are found isn't, either.
    "include: events are shown of up to 20 subscriptions at once",
    # What exists isn't: the numbers are those of the merchant's catalogue.
    "EventType: there is no ",
    # A schema can't compare the body with the path.
    " in the body and ",
    # The text holds an object as JSON.
    "payload: the text is no JSON object",
    # The 31st of a month that has 30 days.
    " is no time such as ",
    # Unknown members are passed over, but in XML all are texts, and none is there twice.
    "The XML can't be read: ",
    # Some headers belong to the server.
    " is set by the server; leave it out",
    # The bound is on pairs in all, in bytes.
    "headers: is ",
    # What the merchant's catalogue has is no matter of the schema.
    " is no event of the catalogue",
    # Which events those are that carry the data of customers isn't, either.
    "webhook_url: must be https",
    # The bound is on all events together.
    " topics are too many",
    # A name at least: commas, dots and spaces are none.
    ": is empty; name what goes out",
    # How much waits, changes.
    " replays and backfills of the webhook wait",
    " replays and backfills of the merchant wait",
]

SWITCHES = {"true", "false", "1", "0"}
INTEGER = re.compile(r"[+-]?\d+(\.0+)?")


def is_lenient(error, is_text):
    """True if what breaks the schema is written in a way that clients can't help."""
    if error.instance in ("", [], {}):
        # What is empty counts as left out.
        return True
    text = json.dumps(error.instance) if isinstance(error.instance, bool) else str(error.instance)
    text = text.strip().lower()
    match error.kind.name:
        case "type":
            # True or false, or a number, as a text or the other way around; all is a text in XML.
            is_scalar = not isinstance(error.instance, (list, dict))
            return text in SWITCHES or INTEGER.fullmatch(text) is not None or (is_text and is_scalar)
        case "enum":
            # In any case.
            return text in SWITCHES or any(str(value).lower() == text for value in error.kind.value or [])
        case _:
            return False


def is_xml(case):
    return case.media_type is not None and "xml" in case.media_type


def leniencies(case):
    """Of each thing that is wrong with the body and the query of a request, whether it may be read leniently."""
    body = case.operation.get_body_for_media_type(case.media_type)
    if body is not None and case.meta.is_negative_at(ParameterLocation.BODY):
        validator = make_validator(body.unoptimized_schema, case.operation.schema.adapter.jsonschema_validator_cls)
        for error in validator.iter_errors(case.body):
            yield is_lenient(error, is_xml(case))
    if case.meta.is_negative_at(ParameterLocation.QUERY):
        query = case.operation.get_parameter_set(ParameterLocation.QUERY)
        for error in query.get_strict_validator().iter_errors(dict(case.query or {})):
            yield is_lenient(error, True)


@schemathesis.check
def what_fits_is_taken(ctx, response, case):
    # There is no null in XML, so Schemathesis writes a text.
    has_null = is_xml(case) and isinstance(case.body, dict) and None in case.body.values()
    if response.status_code == 400 and (has_null or any(words in response.text for words in REFUSED)):
        return None
    return checks.positive_data_acceptance(ctx, response, case)


@schemathesis.check
def what_does_not_fit_is_refused(ctx, response, case):
    if case.meta is not None and response.status_code < 300:
        found = list(leniencies(case))
        if found and all(found):
            return None
    return checks.negative_data_rejection(ctx, response, case)
