"""Control routes that make trouble: faults, latency, keys that are refused."""

from typing import Any

import bottle

from buffettsbot.http.sandbox import spec as read
from buffettsbot.http.sandbox.faults import names
from buffettsbot.http.sandbox.replies import Reply, dump
from buffettsbot.http.sandbox.spec import ControlError, Spec
from buffettsbot.http.sandbox.state import SERVICES, Fault, SandboxState
from buffettsbot.http.sandbox.tron.payments import CHAIN_SERVICES

Answer = tuple[int, Any]
FAULT_FIELDS = {
    "service", "fault", "times", "methods", "chat_id", "hash", "key", "seconds", "retry_after",
    "performed", "status", "body", "content_type",
}  # fmt: skip


def add_fault(state: SandboxState, spec: Spec) -> Answer:
    """Make a service fail: {service, fault, times?, methods?, chat_id?, hash?, key?, ...}"""
    read.only_known(spec, FAULT_FIELDS, "A fault")
    service = read.choice(spec.get("service"), SERVICES, "service")
    fault = Fault(
        service,
        read.choice(spec.get("fault"), names(service), "fault"),
        times=_optional_count(spec, "times"),
        methods=frozenset(str(method).lower() for method in read.items(spec, "methods")),
        chat_id=str(spec["chat_id"]) if "chat_id" in spec else None,
        hash=read.text(spec, "hash") if "hash" in spec else None,
        key=read.text(spec, "key") if "key" in spec else None,
        seconds=read.seconds(spec, "seconds", None),
        retry_after=_optional_count(spec, "retry_after"),
        performed=read.flag(spec, "performed") if "performed" in spec else None,
        since=state.clock(),
    )
    if fault.name == "custom":
        fault.reply = _custom_reply(spec)
    with state.lock:
        state.faults.append(fault)
    return 201, {"service": service, "fault": fault.name, "times": fault.times}


def _optional_count(spec: Spec, key: str) -> int | None:
    if spec.get(key) is None:
        return None
    number = read.whole(spec[key], key)
    if number < (1 if key == "times" else 0):
        raise ControlError(f"{key} is too small: {number}.")
    return number


def _custom_reply(spec: Spec) -> Reply:
    body = spec.get("body", "")
    status = read.whole(spec.get("status", 200), "status")
    if not 200 <= status <= 599:
        raise ControlError(f"status is 200 to 599, not {status}.")
    return Reply(
        status,
        body.encode() if isinstance(body, str) else dump(body),
        read.text(spec, "content_type", "application/json"),
        _optional_count(spec, "retry_after"),
    )


def clear_faults(state: SandboxState, spec: Spec) -> Answer:
    """Heal everything, or one ?service="""
    service = bottle.request.query.get("service")
    with state.lock:
        kept = [fault for fault in state.faults if service not in (None, fault.service)]
        cleared = len(state.faults) - len(kept)
        state.faults = kept
        state.release()
    return 200, {"cleared": cleared}


def set_latency(state: SandboxState, spec: Spec) -> Answer:
    """Make a service slow: {service, seconds}"""
    read.only_known(spec, {"service", "seconds"}, "Latency")
    service = read.choice(spec.get("service"), SERVICES, "service")
    wait = read.seconds(spec, "seconds", 0)
    state.latency[service] = wait or 0.0
    return 200, {"service": service, "seconds": wait}


def set_keys(state: SandboxState, spec: Spec) -> Answer:
    """Accept only these keys ("" is no key): {service, accepted: [...] or null for any}"""
    read.only_known(spec, {"service", "accepted"}, "Keys")
    service = read.choice(spec.get("service"), CHAIN_SERVICES, "service")
    keys = [str(key) for key in read.items(spec, "accepted")]
    with state.lock:
        if spec.get("accepted") is None:
            state.accepted_keys.pop(service, None)
        else:
            state.accepted_keys[service] = frozenset(keys)
    return 200, {"service": service, "accepted": spec.get("accepted")}
