"""What aiocoap says to a gateway, and what it answers one: `foreign.py client|server PORT`."""

import asyncio
import sys

import aiocoap
import aiocoap.resource as resource
from aiocoap import CHANGED, CONTENT, GET, NON, NOT_FOUND, POST, PUT, Message

PORT = int(sys.argv[2])
# As in network.rs.
BODY = bytes((index // 7 + index % 251) % 256 for index in range(20480))


async def client():
    context = await aiocoap.Context.create_client_context()

    async def ask(path, code=GET, payload=b"", host="[::1]", **more):
        message = Message(code=code, payload=payload, uri=f"coap://{host}:{PORT}/{path}", **more)
        return await asyncio.wait_for(context.request(message).response, 30)

    for host in ["[::1]", "127.0.0.1"]:
        core = await ask(".well-known/core", host=host)
        assert core.code == CONTENT and core.opt.content_format == 40, core
        assert b"</large>;sz=20480" in core.payload
        answer = await ask("alive", POST, b"alive:1234", host=host)
        assert answer.code == CHANGED and answer.payload == b"", answer
        answer = await ask("server", POST, b"led:a:b", host=host)
        assert answer.payload == b"Received 'led:a:b'", answer
        answer = await ask("server", POST, b"led:1", host=host, mtype=NON)
        assert answer.payload == b"Received 'led:1'" and answer.mtype == NON, answer
        answer = await ask("slow", host=host)
        assert answer.payload == b"slow", answer
        answer = await ask("large", host=host)
        assert answer.payload == BODY, len(answer.payload)
        answer = await ask("store", PUT, BODY, host=host)
        assert answer.code == CHANGED, answer
        answer = await ask("store", host=host)
        assert answer.payload == BODY, len(answer.payload)
        answer = await ask("missing", host=host)
        assert answer.code == NOT_FOUND and answer.payload == b"nothing is here", answer
    await context.shutdown()
    print("all is well")


class Large(resource.Resource):
    async def render_get(self, request):
        return Message(payload=BODY)

    async def render_put(self, request):
        assert request.payload == BODY
        return Message(code=CHANGED, payload=b"%d bytes" % len(request.payload))


class Led(resource.Resource):
    value = b"0"

    async def render_get(self, request):
        return Message(payload=self.value)

    async def render_put(self, request):
        Led.value = request.payload
        return Message(code=CHANGED)


class Slow(resource.Resource):
    async def render_get(self, request):
        await asyncio.sleep(1.5)
        return Message(payload=b"slow")


class Clock(resource.ObservableResource):
    count = 0

    async def tick(self):
        while True:
            await asyncio.sleep(0.3)
            self.count += 1
            self.updated_state()

    async def render_get(self, request):
        return Message(payload=b"%d" % self.count)


async def server():
    site, clock = resource.Site(), Clock()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    site.add_resource(["clock"], clock)
    site.add_resource(["large"], Large())
    site.add_resource(["led"], Led())
    site.add_resource(["slow"], Slow())
    context = await aiocoap.Context.create_server_context(site, bind=("::1", PORT))
    print("serving", flush=True)
    try:
        await clock.tick()
    finally:
        await context.shutdown()


asyncio.run({"client": client, "server": server}[sys.argv[1]]())
