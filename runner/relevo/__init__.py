"""Relevo: failover runbooks and the record of every run."""

from __future__ import annotations

from importlib import import_module


def __getattr__(name: str) -> str:
    """The version, looked up when it is wanted: completion has no time for it."""
    if name != "__version__":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("relevo"))
    except metadata.PackageNotFoundError:  # a checkout on the import path, not installed
        return "0+checkout"
