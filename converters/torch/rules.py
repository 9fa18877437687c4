"""The registry of ATen rules. A family file has one import rule for each operation that `torch.export` leaves whole.

A rule is named by the overload ("aten.conv2d.default") and called as

    rule(b: Lowering, **arguments) -> Value | Sequence[Value | None]

with the arguments by the names of the operator's schema, those left at their defaults absent: the rule's own defaults
are the schema's. Tensors come as `Value`, sizes as int or Sym, dtypes as DType. Scope and origin are set. What cannot
be expressed is refused with `raise b.refusal(reason)`.

An in-place overload ("aten.relu_.default") is registered beside its functional twin: the importer renames (storage.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from isomorph.converters.rules import Rules
from isomorph.ir import Value

__all__ = ["REASONS", "ImportRule", "canonical", "complex_rules", "rules"]

ImportRule: TypeAlias = Callable[..., Value | Sequence[Value | None]]
ExportRule: TypeAlias = Callable[..., Any]

Rule = TypeVar("Rule", bound=Callable[..., Any])


_ALIASES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctanh": "atanh", "broadcast_to": "expand", "clip": "clamp", "concatenate": "cat", "divide": "div",
    "fix": "trunc", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "linalg_matmul": "matmul",
    "moveaxis": "movedim", "multiply": "mul", "negative": "neg", "not_equal": "ne", "special_erf": "erf",
    "special_exp2": "exp2", "special_expit": "sigmoid", "special_expm1": "expm1", "special_log1p": "log1p",
    "special_logit": "logit", "special_logsumexp": "logsumexp", "subtract": "sub", "swapdims": "transpose",
}  # fmt: skip
"""Operators that torch keeps under a second name, with the schema of the first (in place as well)."""

_COPIES = frozenset(
    {
        "alias", "as_strided", "detach", "diagonal", "expand", "narrow", "permute", "select", "slice", "split",
        "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
    }
)  # fmt: skip
"""Views that torch also has as `<name>_copy`, which gives a tensor of its own."""


def canonical(target: str) -> str:
    """The first name of an operator that has several: "aten.mul_.Tensor" of "aten.multiply_.Tensor"."""
    if not target.startswith("aten."):
        return target
    name, _, overload = target.removeprefix("aten.").partition(".")
    plain = name.rstrip("_")
    if name.endswith("_copy") and name.removesuffix("_copy") in _COPIES:
        return f"aten.{name.removesuffix('_copy')}.{overload}"
    return f"aten.{_ALIASES[plain]}{name[len(plain) :]}.{overload}" if plain in _ALIASES else target


class _TorchRules(Rules[ImportRule, ExportRule]):
    """Rules whose decorator keeps the type of the function, so that rules can call each other."""

    def imports(self, *names: str) -> Callable[[Rule], Rule]:
        def register(rule: Rule) -> Rule:
            super(_TorchRules, self).imports(*names)(rule)
            return rule

        return register

    def importer(self, name: str) -> ImportRule | None:
        return super().importer(canonical(name))


rules = _TorchRules("torch")
_ITERATED = "the data decide how many iterations it takes, and its vectors are unique up to signs only"
_DECIDED = "the data decide how many steps it takes"
REASONS = {
    **dict.fromkeys(
        (
            "aten._linalg_eigh", "aten._linalg_eigvals", "aten._linalg_svd", "aten.geqrf", "aten.linalg_cond",
            "aten.linalg_eig", "aten.linalg_eigh", "aten.linalg_eigvals", "aten.linalg_eigvalsh", "aten.linalg_lstsq",
            "aten.linalg_matrix_rank", "aten.linalg_pinv", "aten.linalg_svd", "aten.linalg_svdvals", "aten.pinverse",
            "aten.svd",
        ),
        _ITERATED,
    ),
    **dict.fromkeys(
        (
            "aten.gcd", "aten.igamma", "aten.igammac", "aten.lcm", "aten.linalg_matrix_exp", "aten.matrix_exp",
            "aten.special_zeta",
        ),
        _DECIDED,
    ),
    **dict.fromkeys(("aten._ctc_loss", "aten.ctc_loss"), "losses of alignments are not expressed"),
    **dict.fromkeys(
        ("aten.to_sparse", "aten.sparse_coo_tensor", "aten.sparse_sampled_addmm", "aten._sparse_mm_reduce_impl"),
        "sparse tensors are not expressed",
    ),
    **dict.fromkeys(
        (
            "aten._softmax_backward_data", "aten.max_pool2d_with_indices_backward", "aten.native_dropout_backward",
            "aten._unsafe_masked_index_put_accumulate",
        ),
        "gradients are not converted",
    ),
    **dict.fromkeys(("aten.resize_", "aten.resize_as_"), "it changes the memory of its argument"),
    **dict.fromkeys(
        ("aten.fractional_max_pool2d", "aten.fractional_max_pool3d"), "windows at random places are not expressed"
    ),
    "aten.chalf": "complex numbers of half precision are not expressed",
    "aten._batch_norm_with_update": "training is not converted",
}  # fmt: skip
"""Why operations have no rule, by the name without overload, where there is more to say than that they have none."""

complex_rules = _TorchRules("torch, of complex numbers")
"""Rules of operations with a complex operand or result: see complex.py."""
