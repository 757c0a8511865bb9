"""Minimarket: a small shop whose only state is its PostgreSQL database."""
