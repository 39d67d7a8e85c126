"""What a device of the client suite does, whatever its MQTT library: which messages it sends when one comes.

The suite tells a device what to do by the method of a task, so that a program needs no other input:
51 answer; 52 send an event with QoS 1, then answer; 54 say nothing to the announcement, it is to be polled;
53 answer, then poll until there is nothing to do; 55 like 52 with QoS 2.
"""

import json
import os
import ssl
from dataclasses import dataclass, field

SN, HOST, PORT, DIR = (os.environ[name] for name in ("SN", "HOST", "PORT", "DIR"))
PORT = int(PORT)
LEVEL = os.environ.get("LEVEL", "5")
CA, CERTIFICATE, KEY = f"{DIR}/ca.pem", f"{DIR}/cert.pem", f"{DIR}/key.pem"
FILTER = f"srv/{SN}/+"
NOTHING = "00000000-0000-0000-0000-000000000000"
ANSWER, EVENT, POLL, POLLED, EVENT_QOS_2 = 51, 52, 53, 54, 55
EVENT_TYPE = 13


@dataclass
class Publish:
    """A message to send; `user` and `task` are MQTT 5 properties, and empty where the body has all."""

    topic: str
    body: bytes = b""
    qos: int = 1
    task: bytes = b""
    user: list[tuple[str, str]] = field(default_factory=list)


events = 0


def tls() -> ssl.SSLContext:
    """TLS with the device's certificate; the server's name is checked."""
    context = ssl.create_default_context(cafile=CA)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


def answers_5(topic: str, body: bytes, task: bytes | None, user) -> list[Publish]:
    """What an MQTT 5 device sends when this message has come; `user` are its user properties."""
    task = bytes(task or b"").decode()
    return _answers(topic, bytes(body), task, int(dict(user).get("method_code", 0)), _properties)


def answers_311(topic: str, body: bytes) -> list[Publish]:
    """The same over MQTT 3.1.1, where a JSON envelope has what the properties have."""
    envelope = json.loads(bytes(body))
    inner = json.dumps(envelope.get("payload")).encode()
    return _answers(topic, inner, envelope["correlationData"], envelope.get("method_code", 0), _envelope)


def _answers(topic, body, task, method, make) -> list[Publish]:
    level = topic.rpartition("/")[2]
    print(level, task, method, body.decode(), flush=True)
    if level == "tsk":
        return [] if method == POLLED else [make("req", 1, task, {}, None)]
    if level != "rsp" or task == NOTHING:
        return []
    out = []
    if method in (EVENT, EVENT_QOS_2):
        global events
        events += 1
        fields = {"event_type_code": EVENT_TYPE, "dev_event_id": events}
        out.append(make("evt", 2 if method == EVENT_QOS_2 else 1, None, fields, b'{"300":[{"301":5}]}'))
    out.append(make("res", 1, task, {"status_code": 200}, body))
    if method in (POLL, POLLED):
        out.append(Publish(f"dev/{SN}/req"))
    return out


def _properties(level, qos, task, fields, body) -> Publish:
    user = [(name, str(value)) for name, value in fields.items()]
    return Publish(f"dev/{SN}/{level}", body or b"", qos, (task or "").encode(), user)


def _envelope(level, qos, task, fields, body) -> Publish:
    envelope = dict(fields)
    if task:
        envelope["correlationData"] = task
    if body:
        envelope["payload"] = json.loads(body)
    return Publish(f"dev/{SN}/{level}", json.dumps(envelope).encode(), qos)
