"""What a live cell can have."""

from __future__ import annotations

from typing import Literal

Things = Literal["catalogue", "random", "table", "bin", "shelf"]
"""Household things on a table, or a random scene: of any kind, or of the named one."""
