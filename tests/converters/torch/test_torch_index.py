"""Indexing, scattering and searching in PyTorch: through files and capture, in NumPy and onnxruntime, against eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

GENERATOR = torch.Generator().manual_seed(0)


def rand(*shape: int) -> Any:
    return torch.randn(*shape, generator=GENERATOR) * 3


def places(high: int, *shape: int, low: int = 0) -> Any:
    return torch.randint(low, high, shape, generator=GENERATOR)


X = rand(4, 5, 6)
I4, I5, I6 = places(4, 3, low=-4), places(5, 3, low=-5), places(6, 3, low=-6)
MASK = torch.tensor([True, False, True, True])
P, V = places(5, 3, 2, 4), rand(3, 2, 4)
SHIFTS = torch.tensor([1, 0, 2, 3, 1])
LINE = torch.tensor([1, 1, 2, 2, 3, 1, 1, 2])
Case = tuple[Callable[..., Any], tuple[Any, ...]]


def changed(change: Callable[..., Any]) -> Callable[..., Any]:
    """A function that changes a copy of its first argument."""

    def function(x: Any, *rest: Any) -> Any:
        x = x.clone()
        change(x, *rest)
        return x

    return function


def assign(*where: Any) -> Callable[..., Any]:
    """x[where] = value, with the integers of `where` standing for the arguments behind x, and the last the value."""

    def function(x: Any, *rest: Any) -> None:
        key = tuple(rest[each] if isinstance(each, int) else each for each in where)
        x[key if len(key) > 1 else key[0]] = rest[-1]

    return changed(function)


ALL = slice(None)

CASES: dict[str, Case] = {
    "index": (lambda x, i, j: (x[i], x[:, j], x[i, j], x[i[:, None], j], x[None, i], x[i.int()]), (X, I4, I5)),
    "index-inner": (lambda x, i, j: (x[:, i, j], x[..., j]), (X, I5, I6)),
    "index-apart": (lambda x, i, j: (x[i, :, j], x[i[:, None], :, j]), (X, I4, I6)),
    "index-mask": (lambda x, m: (x[m], x[m] * 2, x[x > 0], x[:, x[0, :, 0] > 0]), (X, MASK)),
    "index-mask-inner": (lambda x, m: x[m], (X, X[..., 0] > 0)),
    "index-scalar": (lambda x, i: x[i], (X, torch.tensor(2))),
    "put": (lambda x, i, v: x.index_put((i,), v), (X, torch.tensor([3, -4]), rand(2, 5, 6))),
    "put-sum": (lambda x, i, v: x.index_put((i,), v, accumulate=True), (X, torch.tensor([0, 0, -1]), rand(3, 5, 6))),
    "put-pairs": (
        lambda x, i, j, v: x.index_put((i, j), v, accumulate=True),
        (X, torch.tensor([0, 0, -1]), torch.tensor([1, 1, 2]), rand(3, 6)),
    ),
    "put-mask": (lambda x, v: (x.index_put((x > 0,), v), x.index_put((x > 0,), v, True)), (X, torch.tensor(2.0))),
    "put-mask-values": (lambda x, m, v: x.index_put((m,), v), (X, MASK, rand(3, 5, 6))),
    "assign-inner": (assign(ALL, 0), (X, torch.tensor([0, 3]), rand(4, 2, 6))),
    "assign-apart": (assign(0, ALL, 1), (X, torch.tensor([0, 3]), torch.tensor([1, 3]), rand(2, 5))),
    "assign-mask": (assign(0), (X, MASK, torch.tensor(0.0))),
    "assign-mask-inner": (assign(ALL, 0), (X, X[0, :, 0] > 0, torch.tensor(1.0))),
    "assign-through-a-view": (changed(lambda x: x[..., 0].masked_fill_(x[..., 1] > 0, 1.0)), (X,)),
    "index-select": (lambda x, i: (x.index_select(1, i), x.index_select(-1, i.int())), (X, places(5, 3))),
    "index-select-scalar": (
        lambda x, i: (x.index_select(0, i), x.sum().index_select(0, i * 0)),
        (X, torch.tensor([1])),
    ),
    "index-copy": (lambda x, i, v: x.index_copy(1, i, v), (X, torch.tensor([0, 3]), rand(4, 2, 6))),
    "index-add": (lambda x, i, v: x.index_add(1, i, v, alpha=2), (X, torch.tensor([0, 0]), rand(4, 2, 6))),
    "index-add-first": (lambda x, i, v: x.index_add(0, i, v), (X, torch.tensor([2, 2]), rand(2, 5, 6))),
    "index-fill": (lambda x, i: (x.index_fill(2, i, 3.5), x.index_fill(0, i, x.sum())), (X, torch.tensor([0, 3]))),
    "gather": (lambda x, i: (x.gather(1, i), x.gather(-2, i)), (X, P)),
    "scatter": (lambda x, i: (x.scatter(1, i, 2.5), x.long().scatter(1, i, 2), (x > 0).scatter(1, i, True)), (X, P)),
    "scatter-add": (lambda x, i, v: (x.scatter_add(1, i, v), x.long().scatter_add(1, i, v.long())), (X, P, V)),
    "scatter-multiply": (lambda x, i, v: x.scatter(1, i, v, reduce="multiply"), (X, P, V)),
    "masked-scatter": (lambda x, v: x.masked_scatter(x > 1, v), (X, rand(120))),
    "masked-select": (lambda x, m: (x.masked_select(x > 1), x.masked_select(m)), (X, rand(5, 1) > 0)),
    "take": (lambda x, i: (x.take(i), x.take(i - 120), x.take_along_dim(i)), (X, places(120, 3, 2))),
    "take-along": (lambda x, i: x.take_along_dim(i, 1), (X, places(5, 4, 2, 1))),
    "put-flat": (lambda x, i, v: (x.put(i, v), x.put(i, v, accumulate=True)), (X, torch.tensor([3, -1, 7]), rand(3))),
    "nonzero": (
        lambda x: (x.nonzero(), (x > 1).nonzero(as_tuple=True), torch.argwhere(x > 2), torch.where(x > 0)),
        (X,),
    ),
    "nonzero-static": (
        lambda x: (torch.nonzero_static(x > 1, size=100), torch.nonzero_static(x, size=3, fill_value=7)),
        (X,),
    ),
    "unique": (lambda x: (torch.unique(x), torch.unique(x.long(), return_inverse=True, return_counts=True)), (X,)),
    "unique-slices": (lambda x: torch.unique(x, return_inverse=True, return_counts=True, dim=1), ((X > 0).long(),)),
    "unique-consecutive": (
        lambda x: (
            torch.unique_consecutive(x, return_inverse=True, return_counts=True),
            torch.unique_consecutive(x.reshape(4, 2) // 2, return_counts=True, dim=0),
        ),
        (LINE,),
    ),
    "isin": (lambda x, y: (torch.isin(x, y), torch.isin(x, y, invert=True), torch.isin(x, 2)), (X.long(), LINE)),
    "bincount": (lambda x, w: (torch.bincount(x), torch.bincount(x, w, minlength=10)), (LINE, rand(8))),
    "searchsorted": (
        lambda s, x: (
            torch.searchsorted(s, x),
            torch.searchsorted(s, x, side="right"),
            torch.bucketize(x, s[0], out_int32=True),
        ),
        (rand(2, 6).sort()[0], rand(2, 3)),
    ),
    "repeat-each": (lambda x, r: (x.repeat_interleave(r, 1), torch.repeat_interleave(r)), (X, SHIFTS)),
    "slice-scatter": (
        lambda x, v: (
            torch.slice_scatter(x, v, 1, 1, 5, 2),
            torch.slice_scatter(x, v, 1, -2),
            torch.select_scatter(x, v[:, 0], 1, -2),
        ),
        (X, rand(4, 2, 6)),
    ),
    "diagonal": (lambda x: (x.diagonal(), x.diagonal(1, 1, 2), x.diagonal(-2, -1, 0), x[0].trace()), (X,)),
    "diagonal-scatter": (lambda x, v: x.diagonal_scatter(v, 1, 1, 2), (X, rand(4, 5))),
    "diagonal-embed": (
        lambda x: (torch.diag_embed(x), torch.diag_embed(x, 1), torch.diag_embed(x, -1, 0, 2), torch.diagflat(x, 1)),
        (rand(2, 3),),
    ),
    "triangles": (
        lambda x: (x.tril(), x.triu(1), (x > 0).tril(-2), torch.tril_indices(3, 4, 1) + x.sum().long()),
        (X,),
    ),
    "sort": (
        lambda x: (
            *x.sort(),
            *x.sort(0, descending=True),
            x.argsort(1),
            torch.msort(x),
            *(x > 0).sort(stable=True),
        ),
        (X,),
    ),
    "order": (
        lambda x: (*x.topk(3, 1), *x.kthvalue(2), x.median(), *x.median(1), *x.nanmedian(0, keepdim=True)),
        (X,),
    ),
    "mode": (lambda x: tuple(torch.mode(x, 1)), (torch.tensor([[1, 2, 2, 3], [4, 4, 1, 1]]),)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_computes_what_pytorch_computes(name: str, judge: Callable[..., Any]) -> None:
    function, inputs = CASES[name]
    judge(function, *inputs)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_every_reduction_of_what_is_scattered(reduce: str, include_self: bool, judge: Callable[..., Any]) -> None:
    def function(x: Any, index: Any, src: Any, line: Any, slices: Any) -> Any:
        return (
            x.scatter_reduce(1, index, src, reduce, include_self=include_self),
            x.long().scatter_reduce(1, index, src.long(), reduce, include_self=include_self),
            *([x.index_reduce(1, line, slices, reduce, include_self=include_self)] if reduce != "sum" else []),
        )

    judge(function, X, P, V, torch.tensor([0, 0, 3]), rand(4, 3, 6))


def test_sizes_that_the_data_decide_are_found_anew(judge: Callable[..., Any]) -> None:
    n = torch.export.Dim("n", min=2, max=90)

    def function(x: Any, mask: Any) -> Any:
        kept = x[mask]
        return kept.sum(0), kept * 2, mask.nonzero(), torch.unique(x.long())

    others = [(rand(8, 3), rand(8) > 0), (rand(5, 3), rand(5) > 100)]
    model = judge(function, rand(4, 3), MASK, others=others, dynamic_shapes=(({0: n}, {0: n}),))
    assert any(node.op.name == "Compress" for node in model.graph.nodes)


def test_sorting_along_a_symbolic_axis(judge: Callable[..., Any]) -> None:
    def function(x: Any) -> Any:
        return *x.topk(2, 1), *x.sort(1), x.argsort(1, descending=True), *x.median(1), x.roll(2, 1), x.roll(-1, 1)

    shapes = (({1: torch.export.Dim("a", min=2, max=90)},),)
    judge(function, X, others=[(rand(4, 9, 6),), (rand(4, 2, 6),)], dynamic_shapes=shapes)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.chunk(2, 1)[1].add_(1),
        lambda x: x[::2].mul_(2),
        lambda x: x[-1, ..., ::2].add_(1),
        lambda x: x.split([1, 3], 0)[1].zero_(),
        lambda x: x.unbind(2)[3].fill_(4),
        lambda x: x.narrow(1, 1, 2).mul_(3),
        lambda x: x.swapaxes(0, 1)[2].fill_(5),
        lambda x: x.diagonal(1, 1, 2).mul_(2.0),
        lambda x: x[0].fill_diagonal_(3.0),
        lambda x: x.transpose(0, 1).unsqueeze_(0).mul_(2),
    ],
)
def test_what_is_written_into_a_view_is_in_the_whole(change: Callable[..., Any], judge: Callable[..., Any]) -> None:
    judge(changed(change), X)
