"""Clients of an HTTP server, each with one connection that it keeps and one request at a time.

    python load.py ADDRESS PATH CLIENTS REQUESTS < BODIES

BODIES is one JSON body a line; clients take them in turn. Sockets are read and written without a library, so that one
process of little CPU loads more than a model answers. The last line is JSON: how long each request took, in seconds and
in the order in which they were sent, and how many were not answered with 200.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from urllib.parse import urlsplit


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what comes next."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in head[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, body


async def connected(place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that waits for nobody to fill its packets."""
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return reader, writer


def request(place, path: str, body: bytes) -> bytes:
    """A POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def client(place, requests, took: dict[int, float], failed: list[int]) -> None:
    """One client, until there are no more requests."""
    reader, writer = await connected(place)
    for number, sent in requests:
        began = time.perf_counter()
        writer.write(sent)
        status, _headers, _body = await answer(reader)
        took[number] = time.perf_counter() - began
        if status != 200:
            failed.append(status)
    writer.close()


async def main(address: str, path: str, clients: int, count: int, bodies: list[bytes]) -> None:
    place = urlsplit(address)
    made = itertools.cycle([request(place, path, body) for body in bodies])
    requests = enumerate(itertools.islice(made, count))
    took: dict[int, float] = {}
    failed: list[int] = []
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(place, requests, took, failed) for _number in range(clients)))
    wall = time.perf_counter() - began
    ordered = [took[number] for number in sorted(took)]
    print(json.dumps({"took": ordered, "failed": len(failed), "wall": wall, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    lines = [line for line in sys.stdin.buffer.read().splitlines() if line]
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), lines))
