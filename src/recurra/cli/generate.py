"""`recurra generate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

__all__ = ["generate"]


def generate(
    model: str,
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    /,
    *,
    most: Annotated[int, Parameter(alias="-n")] = 500,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    beam: int = 0,
    seed: int | None = None,
) -> None:
    """Write text that goes on from a prompt, token by token as it is chosen.

    Parameters
    ----------
    model
        The folder of a language model, or hf://OWNER/NAME.
    prompt
        The text to go on from, or - to read it from standard input; a new line when not given.
    most
        Tokens at most.
    temperature
        Below 1 safer, above 1 wilder; 0 takes the most probable token.
    top_k
        Only the most probable so many tokens can come; 0 for all.
    top_p
        Only the most probable tokens that together reach this probability can come.
    min_p
        Only tokens at least this share as probable as the most probable one can come.
    repetition_penalty
        Above 1, tokens that were generated before become less probable.
    beam
        Sequences that a beam search follows, for the most probable text; 0 draws.
    seed
        Of the draws: the same one writes the same text. A new text each time when not given. Refused where nothing is drawn.
    """
    from recurra.cli.arguments import refuse_option
    from recurra.cli.output import while_read
    from recurra.data.surrogates import without_surrogates
    from recurra.errors import SettingsError
    from recurra.model.language.model import LanguageModel
    from recurra.model.load import load

    chosen = load(model)
    if not isinstance(chosen, LanguageModel):
        raise SettingsError(f"{model!r} is no language model and writes no text: use `recurra {chosen.command} {model} ...`.")
    refuse_option(prompt, "generate")
    if prompt == "-":
        prompt = sys.stdin.read().removesuffix("\n")
    prompt = without_surrogates(prompt)
    unknown = chosen.unknown(prompt)
    if unknown:
        treatment = "read as unknown" if chosen.knows_unknown else "passed over"
        shown = ", ".join(map(repr, unknown[:10]))
        print(f"note: not in the vocabulary, {treatment}: {shown}", file=sys.stderr)  # noqa: T201
    pieces = chosen.generate(
        prompt,
        most=most,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        beam=beam,
        seed=seed,
    )
    with while_read():
        _write(prompt, pieces)


def _write(prompt: str, pieces: Iterator[str]) -> None:
    try:
        sys.stdout.write(prompt)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        sys.stdout.flush()
    except KeyboardInterrupt:
        # What is there stays there, on lines of its own.
        sys.stdout.write("\n")
        sys.stdout.flush()
        raise
