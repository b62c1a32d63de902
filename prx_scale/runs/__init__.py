"""The run record: the plain files that training, evaluation, fitting and reports share.

    <study>/runs/<run>/run.json           what the run is and how it stands; replaced as a whole
    <study>/runs/<run>/train.jsonl        one row a logged step
    <study>/runs/<run>/validation.jsonl   one row a validated step and kind of weights
    <study>/runs/<run>/evaluation.jsonl   one row a metric of a checkpoint

How often a run was started is beside them (`prx_scale.attempts`), and which job it belongs to (`prx_scale.owner`).

The JSON-lines files are append-only and safe to read while a run is going on. A last line that was cut short by a
kill is skipped with a warning. A resumed run first drops the rows past its restored step, so no step is in twice.

:mod:`info` and :mod:`rows` say what is in them, :mod:`record` writes them, :mod:`loading` reads those of whole studies,
and :mod:`files` knows how plain files are written and read.
"""

from prx_scale.runs.loading import load, load_runs

__all__ = ["load", "load_runs"]
