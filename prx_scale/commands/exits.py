"""What the verbs tell the shell."""

from __future__ import annotations

DONE = 0
FAILED = 1
"""A run failed; what could be done without it was done."""
BAD_INPUT = 2
INTERRUPTED = 130
"""A signal asked to stop; states are saved, and the same command goes on."""
