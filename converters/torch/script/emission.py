"""Emits an operator of the code: the overload that the call means, in the spelling of exported programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isomorph.converters.torch.script.schemas import Schema, overloads, resolve
from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import Value, describe
from isomorph.errors import MalformedError

__all__ = ["emit"]


def emit(session: Session, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """Emit the overload that the call means."""
    found = resolve(name, args, keywords)
    if found is None:
        where = session.here()
        kinds = ", ".join(describe(value) for value in (*args, *keywords.values()))
        if not overloads(name):
            session.note(_target(name), "there is no rule for this operation", where)
        raise MalformedError(f"no overload of `{name}` takes {kinds}", at=where)
    schema, bound = found
    rewrite = _REWRITTEN.get(schema.target)
    if rewrite is None:
        return session.call(schema, bound)
    return rewrite(session, schema, dict(bound))


def _target(name: str) -> str:
    space, _, plain = name.rpartition("::")
    return f"{space or 'aten'}.{plain}"


# operators that exported programs spell otherwise

Rewrite = Callable[[Session, Schema, dict[str, Any]], Value]


def _to(session: Session, schema: Schema, bound: dict[str, Any]) -> Value:
    """to.prim_Device(self, device, dtype=None, …), to.prim_dtype, to.device: only the type matters."""
    dtype = bound.get("dtype")
    if dtype is None:
        return bound["self"]
    (found,) = (each for each in overloads("to") if each.target == "aten.to.dtype")
    rest = {name: value for name, value in bound.items() if name in ("self", "dtype", "copy")}
    return session.call(found, rest)


def _convolution(session: Session, schema: Schema, bound: dict[str, Any]) -> Value:
    """_convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups, 4 switches)"""
    (found,) = (each for each in overloads("convolution") if each.target == "aten.convolution.default")
    names = {argument.name for argument in found.arguments}
    return session.call(found, {name: value for name, value in bound.items() if name in names})


def _dropout(session: Session, schema: Schema, bound: dict[str, Any]) -> Value:
    """In inference a dropout is its operand, in place as well."""
    return session.call(schema, bound) if bound.get("train") is not False else bound.get("input", bound.get("self"))


def _split(session: Session, schema: Schema, bound: dict[str, Any]) -> Value:
    """split(self, int[] split_sizes, dim), split.sizes(self, split_size, dim): split_with_sizes"""
    (found,) = overloads("split_with_sizes")
    sizes = bound.get("split_sizes", bound.get("split_size"))
    return session.call(found, {"self": bound["self"], "split_sizes": sizes, "dim": bound.get("dim", 0)})


_REWRITTEN: dict[str, Rewrite] = {
    "aten.to.prim_Device": _to,
    "aten.to.prim_dtype": _to,
    "aten.to.prim_other": _to,
    "aten.to.device": _to,
    "aten.to.dtype_layout": _to,
    "aten._convolution.default": _convolution,
    "aten._convolution.deprecated": _convolution,
    "aten.split.default": _split,
    "aten.split.sizes": _split,
    **{
        f"aten.{name}{mark}.default": _dropout
        for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
        for mark in ("", "_")
    },
}
