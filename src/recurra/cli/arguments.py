"""What stands where a text does, and is none."""

from __future__ import annotations

__all__ = ["refuse_option"]


def refuse_option(text: str, command: str) -> None:
    """Refuse a text that is a misspelt option: where texts may begin with a hyphen, nothing else would tell.

    Raises:
        SettingsError: the text begins with two hyphens.
    """
    if text.startswith("--"):
        from recurra.errors import SettingsError

        raise SettingsError(
            f"There is no option {text!r}: see `recurra {command} --help`. A text that starts so can come on standard input (-)."
        )
