"""Settings of all unit tests."""

from __future__ import annotations

from hypothesis import settings

# A law holds at any speed; how busy the machine is proves nothing about it.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")
