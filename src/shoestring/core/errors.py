"""The few exceptions. Each message is one line: what was given, why it does not work, what to write instead."""


class ShoestringError(Exception):
    """Base of what Shoestring raises on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1


class BadInput(ShoestringError):
    """The input, file or option cannot be used. Nothing was written."""

    exit_code = 2


class NotMet(ShoestringError):
    """A budget or a claim does not hold. What was measured has been reported."""

    exit_code = 3


class GivenUp(ShoestringError):
    """A run was asked to end early, and did. It gave nothing; later runs are as if it had not been."""


class NoEffectWarning(UserWarning):
    """A method was applied and changed nothing, or changed what this runtime does not execute."""
