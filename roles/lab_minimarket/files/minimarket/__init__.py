"""Minimarket: a small shop whose only state is its PostgreSQL database."""

__version__ = "1.1.0"
