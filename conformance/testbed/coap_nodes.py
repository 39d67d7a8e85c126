"""CoAP nodes with aiocoap, each at an address of its own below 127.64.0.0/10, as RIOT's firmware is."""

import asyncio
import itertools
import os
import threading

import aiocoap
import aiocoap.resource
from aiocoap.numbers.codes import Code

# Different for each process of the test runner.
ADDRESSES = (f"127.{64 + os.getpid() % 60}.{a}.{b}" for a, b in itertools.product(range(1, 250), range(1, 250)))


class Value(aiocoap.resource.Resource):
    def __init__(self, node, name):
        super().__init__()
        self.node, self.name = node, name

    async def render_get(self, _):
        return aiocoap.Message(code=Code.CONTENT, payload=self.node.resources[self.name].encode(), content_format=0)

    async def render_put(self, request):
        self.node.written.append(f"{self.name}={request.payload.decode()}")
        if self.node.answers_with:
            return aiocoap.Message(code=self.node.answers_with, payload=b"no")
        self.node.resources[self.name] = request.payload.decode()
        if self.node.says_before_it_answers:
            # It waits for the gateway's answer within its own answer.
            await self.node.post("/server", f"{self.name}:{request.payload.decode()}")
        return aiocoap.Message(code=Code.CHANGED)


class Observed(aiocoap.resource.ObservableResource):
    def __init__(self, node, name):
        super().__init__()
        self.node, self.name = node, name

    async def render_get(self, _):
        return aiocoap.Message(code=Code.CONTENT, payload=self.node.resources[self.name].encode(), content_format=0)


class CoapNode:
    """A node. What it says by itself it says from new ports, as nodes in the field do."""

    def __init__(self, url: str, uid: str, resources: dict[str, str], observed=(), address: str | None = None):
        self.uid, self.resources, self.observed = uid, resources, set(observed)
        self.gateway = url.removeprefix("coap://")
        self.address = address or next(ADDRESSES)
        self.written: list[str] = []
        self.answers_with, self.says_before_it_answers = None, False
        self.watched: dict[str, Observed] = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._do(self._serve())

    def _do(self, what, seconds: float = 30.0):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(seconds)

    async def _serve(self):
        site = aiocoap.resource.Site()
        core = lambda: site.get_resources_as_linkheader()  # noqa: E731
        site.add_resource([".well-known", "core"], aiocoap.resource.WKCResource(core))
        for name in self.resources:
            made = Observed(self, name) if name in self.observed else Value(self, name)
            self.watched[name] = made
            site.add_resource(name.split("/"), made)
        return await aiocoap.Context.create_server_context(
            site, bind=(self.address, 5683), transports=["simplesocketserver"]
        )

    async def post(self, path: str, text: str, confirmable: bool = True):
        message = aiocoap.Message(
            code=Code.POST, uri=f"coap://{self.gateway}{path}", payload=text.encode(), content_format=0
        )
        message.mtype = aiocoap.CON if confirmable else aiocoap.NON
        return await self.server.request(message).response

    def alive(self, what: str = "alive", seconds: float = 30.0) -> str:
        return str(self._do(self.post("/alive", f"{what}:{self.uid}"), seconds).code)

    def say(self, resource: str, value: str, confirmable: bool = True, seconds: float = 30.0):
        return self._do(self.post("/server", f"{resource}:{value}", confirmable), seconds)

    def change(self, resource: str, value: str) -> None:
        self.resources[resource] = value
        self.loop.call_soon_threadsafe(self.watched[resource].updated_state)

    def close(self) -> None:
        self._do(self.server.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
