"""The run-time check of array annotations that the tests run under.

Only annotations that speak of arrays are checked: for the rest, the library's own errors must
come through, and mypy checks them.
"""

import typing
from collections.abc import Callable
from typing import Any

import beartype
from jaxtyping import AbstractArray, PRNGKeyArray


def arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, with every annotation replaced by Any that holds no array type."""
    function.__annotations__ = {
        name: annotation if _speaks_of_arrays(annotation) else Any
        for name, annotation in function.__annotations__.items()
    }
    return beartype.beartype(function)


def _speaks_of_arrays(annotation: Any) -> bool:
    if annotation in (PRNGKeyArray, PRNGKeyArray | None):
        return False  # the library has its own error for what is no key
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(_speaks_of_arrays(part) for part in typing.get_args(annotation))
