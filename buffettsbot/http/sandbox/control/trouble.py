"""Control routes that make trouble: faults, latency, keys that are refused."""

from dataclasses import replace
from typing import Any

import bottle

from buffettsbot.http.sandbox import spec as read
from buffettsbot.http.sandbox.faults import names
from buffettsbot.http.sandbox.replies import CANNED, Reply, dump
from buffettsbot.http.sandbox.spec import ControlError, Spec
from buffettsbot.http.sandbox.state import SERVICES, Fault, SandboxState
from buffettsbot.http.sandbox.tron import chain

FAULT_FIELDS = {
    "service", "fault", "times", "methods", "chat_id", "hash", "key", "seconds", "retry_after",
    "performed", "status", "body", "content_type",
}  # fmt: skip
DEFAULT_WAIT = {"tronscan": 19, "trongrid": 27, "telegram": 5}
SENDS_RETRY_AFTER = ("tronscan", "telegram")


def add_fault(state: SandboxState, spec: Spec) -> Any:
    """Make a service fail: {service, fault, times?, methods?, chat_id?, hash?, key?, ...}"""
    read.only_known(spec, FAULT_FIELDS, "A fault")
    service = read.choice(spec.get("service"), SERVICES, "service")
    name = read.choice(spec.get("fault"), names(service), "fault")
    fault = Fault(
        service,
        name,
        times=_optional_count(spec, "times", 1),
        methods=frozenset(str(method).lower() for method in read.items(spec, "methods")),
        chat_id=str(spec["chat_id"]) if "chat_id" in spec else None,
        hash=read.optional(spec, "hash", str),
        key=read.optional(spec, "key", str),
        seconds=read.seconds(spec, "seconds", None),
        reply=_reply_instead(spec, service, name),
        performed=read.optional(spec, "performed", bool),
        since=state.clock(),
    )
    state.faults.append(fault)
    bottle.response.status = 201
    return {"service": service, "fault": name, "times": fault.times}


def _optional_count(spec: Spec, key: str, lowest: int) -> int | None:
    if spec.get(key) is None:
        return None
    number = read.whole(spec[key], key)
    if number < lowest:
        raise ControlError(f"{key} is too small: {number}.")
    return number


def _reply_instead(spec: Spec, service: str, name: str) -> Reply | None:
    """Return what is answered in place of the truth, or None for a fault that twists the truth."""
    wait = _optional_count(spec, "retry_after", 0)
    if name == "custom":
        return _custom_reply(spec, wait)
    if name not in CANNED[service]:
        return None
    if wait is None:
        wait = DEFAULT_WAIT[service]
    reply = CANNED[service][name]
    if reply.status == 429 and service in SENDS_RETRY_AFTER:
        reply = replace(reply, headers={"Retry-After": str(wait)})
    return replace(reply, body=reply.body.replace(b"@", b"%d" % wait))


def _custom_reply(spec: Spec, wait: int | None) -> Reply:
    body = spec.get("body", "")
    status = read.whole(spec.get("status", 200), "status")
    if not 200 <= status <= 599:
        raise ControlError(f"status is 200 to 599, not {status}.")
    return Reply(
        status,
        body.encode() if isinstance(body, str) else dump(body),
        read.field(spec, "content_type", "application/json"),
        {} if wait is None else {"Retry-After": str(wait)},
    )


def clear_faults(state: SandboxState, spec: Spec) -> Any:
    """Heal everything, or one ?service="""
    service = bottle.request.query.get("service")
    kept = [fault for fault in state.faults if service not in (None, fault.service)]
    cleared = len(state.faults) - len(kept)
    state.faults = kept
    state.release()
    return {"cleared": cleared}


def set_latency(state: SandboxState, spec: Spec) -> Any:
    """Make a service slow: {service, seconds}"""
    read.only_known(spec, {"service", "seconds"}, "Latency")
    service = read.choice(spec.get("service"), SERVICES, "service")
    wait = read.seconds(spec, "seconds", 0)
    state.latency[service] = wait or 0.0
    return {"service": service, "seconds": wait}


def set_keys(state: SandboxState, spec: Spec) -> Any:
    """Accept only these keys ("" is no key): {service, accepted: [...] or null for any}"""
    read.only_known(spec, {"service", "accepted"}, "Keys")
    service = read.choice(spec.get("service"), chain.SERVICES, "service")
    keys = frozenset(str(key) for key in read.items(spec, "accepted"))
    if spec.get("accepted") is None:
        state.accepted_keys.pop(service, None)
    else:
        state.accepted_keys[service] = keys
    return {"service": service, "accepted": spec.get("accepted")}
