"""The command line, one file a command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App

from recurra.cli.output import drop_output
from recurra.errors import RecurraError, TrainingInterrupted

__all__ = ["app", "main"]


def _version() -> str:
    import recurra

    return recurra.__version__


app = App(
    name="recurra",
    help="Recurrent networks for sequences: from a table to a trained, evaluated, usable model.",
    version=_version,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command("recurra.cli.train:train", name="train", help="Train a model from a table or a text and write its folder and report.")
app.command("recurra.cli.evaluate:evaluate", name="evaluate", help="Measure a model on a table with targets.")
app.command("recurra.cli.predict:predict", name="predict", help="Predict for texts, or for the rows of a table of any size.")
app.command("recurra.cli.forecast:forecast", name="forecast", help="Forecast the next steps of every series of a table.")
app.command("recurra.cli.backtest:backtest", name="backtest", help="Measure a forecaster on the last stretches of a history.")
app.command("recurra.cli.recommend:recommend", name="recommend", help="Recommend the next item of a session.")
app.command("recurra.cli.generate:generate", name="generate", help="Write text that goes on from a prompt.")
app.command("recurra.cli.dialogues:dialogues", name="dialogues", help="Write the pairs of history and reply that dialogues hold.")
app.command("recurra.cli.chat:chat", name="chat", help="Talk with trained models of replies, intents and slots.")
app.command("recurra.cli.settings:settings", name="settings", help="Print every setting with its default, or the JSON schema.")
app.command("recurra.cli.doctor:doctor", name="doctor", help="Tell versions, devices, threads and what is installed; test the kernels.")

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it (128 + SIGINT)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the console script of the package.

    Exit status: 0 when all went well, 1 for an error with its message on standard error, 130 after an interruption.
    """
    _carry_utf8()
    try:
        app(arguments)
    except TrainingInterrupted as interruption:
        print(f"interrupted: {interruption}", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    except RecurraError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        drop_output()
        place = "Standard output" if error.filename is None else repr(error.filename)
        print(f"error: {place} cannot be written: {error.strerror}. Free some space.", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _carry_utf8() -> None:
    """Files and pipes on the standard streams hold UTF-8 in every locale, as all files of ours do; a terminal has its own encoding.

    Bytes that are no UTF-8 arrive as half characters, which the commands put signs of replacement for; a character that a terminal
    lacks is shown as a question mark.
    """
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(io.UnsupportedOperation):  # read from already
                stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors=errors)
