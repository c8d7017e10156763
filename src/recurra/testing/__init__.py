"""What a recurrent layer is held to: `assert_conforms(my_cell)`, how far results may round, the self-test of an installation.

Not the tests of the package itself: those are in `tests/`, and use these.
"""

from __future__ import annotations

from recurra.testing.conformity import assert_conforms

__all__ = ["assert_conforms"]
