"""What calls of operators mean: `torch.NAME`, `ops.prim.NAME`, `ops.NAMESPACE.NAME`.

What is known when converting (sizes, dtypes, numbers, lists, strings) is computed; the rest goes to the program, as the
overload that the schemas say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from isomorph.converters.torch.script import arithmetic, containers, rows
from isomorph.converters.torch.script.emission import emit
from isomorph.converters.torch.script.queries import QUERIES
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.sizes import of_sizes
from isomorph.converters.torch.script.values import Value
from isomorph.errors import MalformedError

__all__ = ["call"]


def call(session: Session, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """The result of an operator; `name` is "conv2d" of aten, "prim::max" or "torchvision::nms" of other namespaces.

    Raises Raised where the code does; MalformedError for what no overload takes.
    """
    if (session.tracked or session.growing) and rows.concerns(session, args):
        return rows.call(session, name, args, keywords, lambda: _contained_in(name, args, keywords))
    special = QUERIES.get(name)
    if special is not None:
        try:
            return special(session, *args, **keywords)
        except TypeError as error:
            raise MalformedError(f"the arguments of `{name}` do not fit it", because=str(error)) from None
    plain = name.removeprefix("prim::")
    if args and isinstance(args[0], list | dict | str | tuple):
        operation = containers.find(args[0], plain)
        if operation is not None:
            return _contained(operation, name, args, keywords)
    if not args and plain in ("dict", "list"):
        return {} if plain == "dict" else []
    if plain == "mul" and len(args) == 2 and isinstance(args[1], list | str):
        return call(session, name, (args[1], args[0]), keywords)
    if args and not keywords and all(arithmetic.is_number(each) for each in args) and plain in arithmetic.OPERATIONS:
        return arithmetic.compute(session, plain, list(args))
    size = of_sizes(session, plain, args, keywords)
    if size is not None:
        return size
    return emit(session, name, args, keywords)


def _contained_in(name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    operation = containers.find(args[0], name.removeprefix("prim::"))
    if operation is None:
        raise MalformedError(f"`{name}` of a {type(args[0]).__name__} is not followed")
    return _contained(operation, name, args, keywords)


def _contained(
    operation: Callable[..., Value], name: str, args: Sequence[Value], keywords: Mapping[str, Value]
) -> Value:
    try:
        return operation(*args, **keywords)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError(f"`{name}` of a {type(args[0]).__name__} is not followed", because=str(error)) from None
