"""Relevo: failover runbooks and the record of every run."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("relevo")
except PackageNotFoundError:  # a checkout on the import path, not installed
    __version__ = "0+checkout"
