"""The whole error model: one base, one type per boundary.

A message names what failed, where, the value, the limit and the mend, in one line. The `avar` command
prints that line and exits with the type's `exit_code`; a traceback means a bug in avar itself.
"""

from __future__ import annotations

from enum import StrEnum


class AvarError(Exception):
    """Anything a person can mend. `exit_code` is what the command line leaves with."""

    exit_code = 1


class ConfigError(AvarError):
    """A recipe, an override or a command's arguments are wrong."""

    exit_code = 2


class SourceError(AvarError):
    """A source of problems cannot be read at all (one unreadable row is a failed row, not this)."""


class RowError(AvarError):
    """One row of a source cannot become a problem. It becomes a failed row with this `reason`.

    Args:
        reason: a `schemas.records.SourceFault`.
        message: one line for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ShardError(AvarError):
    """An Arrow shard or a run folder cannot be written or read."""


class SpanError(AvarError):
    """Token regions cannot be found exactly: a template that rewrites content, a row without image tokens."""


class AttentionError(AvarError):
    """A model's attention cannot be recorded exactly, and why."""


class CheckpointError(AvarError):
    """No checkpoint to go on from, one that is not whole, or one of another training."""


class FlowError(AvarError):
    """The orchestration around the work failed: a server did not start, a flow was cancelled."""


class InterruptedRunError(AvarError):
    """A person or the system stopped the run; the message says how to go on."""

    exit_code = 130


class TeacherFault(StrEnum):
    """Why a teacher's answer is missing. The closed list of reasons a row may fail at a stage."""

    REFUSED = "teacher_refused"  # 400, 413, 422: this request can never succeed
    IMAGE_REFUSED = "image_refused"  # the same, for its image
    TOO_LONG = "prompt_too_long"  # the same, for more tokens than the model takes
    OVERSIZED = "answer_too_large"  # a body that no completion has
    UNSUPPORTED = "not_supported"  # an answer without what was asked for beside the text
    UNKNOWN_MODEL = "unknown_model"  # 404
    UNAUTHORIZED = "unauthorized"  # 401, 403
    UNREACHABLE = "teacher_unreachable"  # no connection
    OVERLOADED = "teacher_overloaded"  # 429, 503
    BROKEN = "teacher_error"  # any other 5xx
    MALFORMED = "malformed_answer"  # a body that is not the API's
    TIMEOUT = "teacher_timeout"


class TeacherError(AvarError):
    """A teacher did not answer a request, and whose fault it is.

    Args:
        fault: the kind.
        message: one line for people.
        retry_after_s: seconds the server asked to wait, None where it did not say.
    """

    TRANSIENT = frozenset(
        {
            TeacherFault.UNREACHABLE,
            TeacherFault.OVERLOADED,
            TeacherFault.BROKEN,
            TeacherFault.MALFORMED,
            TeacherFault.TIMEOUT,
        }
    )
    # These speak of the server or the set-up, not of one row: the run stops and can go on later.
    FATAL = frozenset({TeacherFault.UNREACHABLE, TeacherFault.UNKNOWN_MODEL, TeacherFault.UNAUTHORIZED})

    def __init__(self, fault: TeacherFault, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        """True where asking again may help."""
        return self.fault in self.TRANSIENT

    @property
    def fatal(self) -> bool:
        """True where no row can succeed until somebody mends the teacher or the recipe."""
        return self.fault in self.FATAL
