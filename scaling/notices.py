"""Warnings, as every result has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A warning: a code for programs and a sentence that a person can act on."""

    code: str
    message: str
