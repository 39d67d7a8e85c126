"""A proxy for TCP that can be cut, as a network is: nothing passes and nobody is told, or all connections break."""

import asyncio
import socket
import struct
import threading

STEP_SECONDS_MAX = 10.0
CHUNK_BYTES = 65_536
# What SO_LINGER takes to make the end of a connection a reset: on, zero seconds.
AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes connections on to an address of this machine, from a thread of its own."""

    def __init__(self, port: int):
        self.target_port = port
        self.loop = asyncio.new_event_loop()
        self.writers: set[asyncio.StreamWriter] = set()
        self.is_open = asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True, name=f"proxy-{port}")
        self.thread.start()
        self.port = self._do(self._listen())

    def _do(self, step):
        return asyncio.run_coroutine_threadsafe(step, self.loop).result(STEP_SECONDS_MAX)

    async def _listen(self) -> int:
        self.is_open.set()
        self.listener = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return self.listener.sockets[0].getsockname()[1]

    async def _pass_on(self, reader, writer) -> None:
        self.writers.add(writer)
        try:
            # While the network is cut, a connection seems to come about and nothing is heard on it.
            await self.is_open.wait()
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            self._break(writer)
            return
        self.writers.add(other_writer)
        ways = (self._pump(reader, other_writer), self._pump(other_reader, writer))
        await asyncio.gather(*ways, return_exceptions=True)
        self._break(writer)
        self._break(other_writer)

    async def _pump(self, reader, writer) -> None:
        """What was under way when the network was cut arrives after it is whole again, as TCP sees to."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self.is_open.wait()
                writer.write(data)
                await writer.drain()
            await self.is_open.wait()
            writer.write_eof() if writer.can_write_eof() else writer.close()
        except OSError:
            await self.is_open.wait()
            self._break(writer)

    def _break(self, writer) -> None:
        self.writers.discard(writer)
        stream = writer.get_extra_info("socket")
        if stream is not None and not writer.is_closing():
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        writer.transport.abort()

    def cut(self) -> None:
        """From now on nothing passes, and neither side is told."""
        self._do(self._set(False))

    def heal(self) -> None:
        """Everything passes again."""
        self._do(self._set(True))

    async def _set(self, is_open: bool) -> None:
        self.is_open.set() if is_open else self.is_open.clear()

    def reset(self) -> int:
        """Breaks all connections, on both sides, and answers how many; new ones pass."""
        return self._do(self._reset())

    async def _reset(self) -> int:
        writers = list(self.writers)
        for writer in writers:
            self._break(writer)
        return len(writers) // 2

    def close(self) -> None:
        """Ends it with all its connections."""
        self._do(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(STEP_SECONDS_MAX)

    async def _close(self) -> None:
        self.listener.close()
        await self._set(True)
        await self._reset()
        # They end by themselves, now that their connections have.
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=STEP_SECONDS_MAX / 2)
