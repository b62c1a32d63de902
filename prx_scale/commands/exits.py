"""What the verbs tell the shell."""

from __future__ import annotations

DONE = 0
FAILED = 1
"""A run failed; what could be done without it was done."""
BAD_INPUT = 2
AGAIN = 75
"""A process of several died or lost its connection: the same command may well succeed (EX_TEMPFAIL of sysexits.h)."""
INTERRUPTED = 130
"""A signal asked to stop; states are saved, and the same command goes on."""
