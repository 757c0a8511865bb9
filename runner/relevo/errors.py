"""What can go wrong, each as one sentence that a tired operator can act on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the command `relevo` says to the shell."""

    PASSED = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 3
    USAGE = 4
    PARTIAL = 5
    CANCELLED = 6


class RelevoError(Exception):
    """Something failed; the message is the whole explanation."""

    exit = Exit.FAILED


class UsageError(RelevoError):
    """The command cannot mean anything: nothing was started and nothing is recorded."""

    exit = Exit.USAGE


class InputRefusedError(RelevoError):
    """An input of a run is missing or not acceptable: nothing was started, the refusal is recorded."""

    exit = Exit.REFUSED


class JournalError(RelevoError):
    """The run's journal cannot be opened or read."""


class SignatureError(RelevoError):
    """A record cannot be signed, or its signature does not hold."""


class ChainError(RelevoError):
    """An entry of a store's chain, or its signed head, is not what it should be."""


class AnchorError(RelevoError):
    """The place of an anchor cannot be reached, or does not keep what it is given."""


class StoreError(RelevoError):
    """The store of results cannot be reached, or holds something else than expected."""


class RecordConflictError(StoreError):
    """The store holds another record of that run: this one can never be delivered."""


class RecordNotFoundError(StoreError):
    """No record has that run id."""

    exit = Exit.USAGE


class PolicyError(UsageError):
    """The policy cannot be read, or says something that it cannot mean."""
