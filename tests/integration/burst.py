"""A reconnect storm of a bounded size: clients that hold a session each, and all come back at once when theirs is cut."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg

# What a server says that has no slot left, and one that keeps the rest for others.
TOO_MANY = "53300"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
_LOOK_SECONDS, _BEGIN_SECONDS = 0.2, 60.0


@dataclass
class Client:
    """One client by the monotonic clock. refused: attempts by SQLSTATE, or by the kind of error where no server answered."""

    lost_at: float | None = None
    back_at: float | None = None
    attempts: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Storm:
    """What became of the clients."""

    clients: list[Client]

    @property
    def cut(self) -> int:
        """How many lost their session."""
        return sum(client.lost_at is not None for client in self.clients)

    @property
    def back(self) -> int:
        """How many of those have one again."""
        return sum(client.back_at is not None for client in self.clients)

    @property
    def refused(self) -> Counter[str]:
        """All refusals."""
        return sum((client.refused for client in self.clients), Counter())

    @property
    def seconds(self) -> float | None:
        """From the first session that was lost to the last one that came back; None where one did not."""
        if not self.cut or self.back < self.cut:
            return None
        return max(client.back_at or 0.0 for client in self.clients) - min(
            client.lost_at or 0.0 for client in self.clients if client.lost_at
        )


class Burst:
    """So many clients and no more, each with one session or one attempt at a time, in a thread of their own until they are stopped."""

    def __init__(self, clients: int, **connection: Any) -> None:
        self._clients = [Client() for _ in range(clients)]
        self._connection: dict[str, Any] = {"connect_timeout": 5, "target_session_attrs": "read-write", **connection}
        self._stop = threading.Event()
        self._held = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        """When all of them hold a session. TimeoutError when one could get none within a minute."""
        self._thread.start()
        limit = time.monotonic() + _BEGIN_SECONDS
        while self._held < len(self._clients):
            if time.monotonic() > limit:
                self.__exit__()
                message = f"only {self._held} of {len(self._clients)} clients got a session: {self.storm().refused}"
                raise TimeoutError(message)
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait(self, clients: int, seconds: float) -> bool:
        """Until so many have a session again that had lost theirs."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if self.storm().back >= clients:
                return True
            time.sleep(0.05)
        return False

    def storm(self) -> Storm:
        """As it stands."""
        return Storm(list(self._clients))

    async def _run(self) -> None:
        tasks = [asyncio.create_task(self._live(client)) for client in self._clients]
        await asyncio.to_thread(self._stop.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, client: Client) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                client.attempts += 1
                async with await psycopg.AsyncConnection.connect(**self._connection, autocommit=True) as session:
                    pause = _FIRST_PAUSE_SECONDS
                    await self._hold(client, session)
            except (psycopg.Error, OSError) as error:
                client.refused[_reason(error)] += 1
            # Full jitter: those who were cut together do not knock together for ever.
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _hold(self, client: Client, session: psycopg.AsyncConnection[Any]) -> None:
        """Until the session is cut."""
        self._held += 1
        if client.lost_at is not None:
            client.back_at = time.monotonic()
        try:
            while True:
                await session.execute("select 1")
                await asyncio.sleep(_LOOK_SECONDS)
        except psycopg.Error:
            client.lost_at, client.back_at = client.lost_at or time.monotonic(), None
        finally:
            self._held -= 1


def _reason(error: Exception) -> str:
    """libpq gives no SQLSTATE of a session that never was: its words say it."""
    said = str(error)
    return TOO_MANY if "connection slots" in said or "too many clients" in said else type(error).__name__
