"""A small HTTP client for one server of our own on loopback: connections are kept, answers are read as they come.

Every request of the gateway goes through here a second time, so that little may happen: a general client takes as long
for it as the gateway for all the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

_HEAD_BYTES = 65_536
_CHUNK = 65_536


class Broken(Exception):
    """The server is gone, or did not answer as HTTP wants it."""


@dataclass(frozen=True)
class _Link:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.close()


@dataclass(frozen=True)
class _Head:
    """How an answer begins."""

    status: int
    length: int | None
    chunked: bool
    keeps: bool


class Client:
    """Of one server; connections that nobody uses are kept for the next request."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._free: list[_Link] = []

    async def post(self, path: str, body: bytes) -> tuple[int, AsyncGenerator[bytes]]:
        """The status, and the body piece by piece; whoever stops reading closes it, which ends the request.

        Raises:
            Broken: no answer came.
        """
        asked = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body
        while True:
            used = bool(self._free)
            try:
                link = self._free.pop() if used else _Link(*await self._connected())
                head = await self._head(link, asked)
            except (OSError, asyncio.IncompleteReadError) as error:
                if used:
                    # The server closes connections that were long at rest: another one is asked, which may be new.
                    continue
                raise Broken(str(error) or type(error).__name__) from error
            return head.status, self._pieces(link, head)

    def close(self) -> None:
        """Close what is kept."""
        while self._free:
            self._free.pop().close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, limit=_HEAD_BYTES)

    async def _head(self, link: _Link, asked: bytes) -> _Head:
        try:
            link.writer.write(asked)
            text = await link.reader.readuntil(b"\r\n\r\n")
            return _parsed(text)
        except (ValueError, asyncio.LimitOverrunError) as error:
            link.close()
            raise Broken(str(error)) from error
        except BaseException:
            link.close()
            raise

    async def _pieces(self, link: _Link, head: _Head) -> AsyncGenerator[bytes]:
        whole = False
        try:
            if head.chunked:
                while size := int((await link.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield (await link.reader.readexactly(size + 2))[:-2]
                await link.reader.readuntil(b"\r\n")
            elif head.length is not None:
                left = head.length
                while left:
                    piece = await link.reader.read(min(left, _CHUNK))
                    if not piece:
                        raise Broken("the answer ends too early")
                    left -= len(piece)
                    yield piece
            else:
                while piece := await link.reader.read(_CHUNK):
                    yield piece
            whole = True
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise Broken(str(error)) from error
        finally:
            if whole and head.keeps:
                self._free.append(link)
            else:
                link.close()


def _parsed(text: bytes) -> _Head:
    first, *lines = text.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    chunked = fields.get("transfer-encoding", "").lower() == "chunked"
    length = int(fields["content-length"]) if "content-length" in fields else None
    keeps = fields.get("connection", "").lower() != "close" and (chunked or length is not None)
    return _Head(int(first.split(" ", 2)[1]), length, chunked, keeps)
