"""Elementwise, reduction, shape, index and creation rules against PyTorch, type promotion included."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
F = torch.nn.functional


def rand(*shape: int, dtype: Any = None, seed: int = 0) -> Any:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3
    if dtype is None:
        return values
    if dtype is torch.bool:
        return values > 0
    return values.abs().to(dtype) if dtype is torch.uint8 else values.to(dtype)


X, Y, I, J, B = (  # noqa: E741
    rand(2, 3, 4),
    rand(3, 1, seed=1),
    rand(2, 3, 4, dtype=torch.int64),
    rand(3, 4, dtype=torch.int32, seed=2),
    rand(2, 3, 4, dtype=torch.bool),
)

ELEMENTWISE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "arithmetic": (lambda x, y: (x + y, x - y, x * y, x / y), (X, Y)),
    "alpha": (lambda x, y: (torch.add(x, y, alpha=2), torch.sub(x, y, alpha=0.5), torch.rsub(x, y, alpha=3)), (X, Y)),
    "scalars": (lambda x: (x + 1, 2 - x, x * 0.5, 3 / x, x / 4), (X,)),
    "integers": (lambda i, j: (i + j, i * 2, i + 0.5, i / j.clamp(min=1), i + True), (I, J)),
    "float-int": (lambda x, j: (x + j, x * j, x / 3), (X, J)),
    "bools": (lambda b, x: (b + b, b * b, b + 1, b * x, ~b), (B, X)),
    "scalar-tensor": (lambda x, i: (i + torch.tensor(1.5), x.half() + torch.tensor(1.5), x + torch.tensor(3)), (X, I)),
    "division-modes": (
        lambda x, i: (
            torch.div(x, 0.7, rounding_mode="floor"),
            torch.div(x, 0.7, rounding_mode="trunc"),
            torch.div(i, 3, rounding_mode="floor"),
            torch.div(i, 3, rounding_mode="trunc"),
        ),
        (X, I),
    ),
    "floor-divide": (lambda x, y, i: (x // 0.1, x // y, i // 2, i // -3), (X, Y, I)),
    "remainder": (lambda x, i: (x % 0.7, torch.fmod(x, 0.7), i % 3, torch.fmod(i, 3), i % -3), (X, I)),
    "power": (
        lambda x, i: (x**2, x**3, x.abs() ** 0.5, x.abs() ** -1.5, 2**x, i**2, i.abs() ** 2, x.abs() ** x),
        (X, I),
    ),
    "compare": (lambda x, y, i: (x == y, x != y, x < y, x <= 0, x > 1, i >= 0.5, i == 2), (X, Y, I)),
    "logic": (
        lambda x, i, b: (
            torch.logical_and(x, b),
            torch.logical_or(i, b),
            torch.logical_xor(x, i),
            torch.logical_not(i),
        ),
        (X, I, B),
    ),
    "bits": (lambda i, b: (i & 3, i | 4, i ^ 5, ~i, b & b, b | ~b, b ^ b), (I, B)),
    "minmax": (lambda x, y, i: (torch.maximum(x, y), torch.minimum(x, i), torch.max(x, y)), (X, Y, I)),
    "clamp": (
        lambda x, i: (x.clamp(-1, 1), x.clamp(min=0.5), i.clamp(max=1), i.clamp(min=0.5), x.clamp_min(0)),
        (X, I),
    ),
    "clamp-tensor": (lambda x, y: (torch.clamp(x, min=y), torch.clamp(x, y, y + 1)), (X, Y)),
    "where": (lambda x, b, i: (torch.where(b, x, 0.0), torch.where(b, x, i), torch.where(x > 0, 1.0, -1.0)), (X, B, I)),
    "masked-fill": (lambda x, b: (x.masked_fill(b, float("-inf")), x.masked_fill(b, torch.tensor(2))), (X, B)),
    "unary": (
        lambda x: (
            x.abs(),
            -x,
            x.sign(),
            x.exp(),
            x.floor(),
            x.ceil(),
            x.round(),
            x.trunc(),
            x.erf(),
            x.sin(),
            x.cos(),
            x.tan(),
            x.sinh(),
            x.cosh(),
            x.atan(),
            x.asinh(),
            x.square(),
            x.reciprocal(),
        ),
        (X,),
    ),
    "positive": (lambda x: (x.sqrt(), x.rsqrt(), x.log(), x.log2(), x.log10()), (X.abs() + 0.1,)),
    "bounded": (lambda x: (x.asin(), x.acos(), x.atanh(), (x + 2).acosh()), (torch.tanh(X) * 0.9,)),
    "unary-int": (lambda i: (i.abs(), -i, i.sign(), i.exp(), i.floor(), i.abs().sqrt(), i.sigmoid(), i.tanh()), (I,)),
    "special": (lambda x: (x.isnan(), (x / 0).isinf(), (x / 0).isfinite()), (X,)),
    "casts": (
        lambda x, i: (x.half(), x.double(), x.int(), i.float(), x.bool(), i.to(torch.uint8), x.type_as(i), x.to(i)),
        (X, I),
    ),
    "special-functions": (
        lambda x: (
            torch.log1p(x * 1e-6),
            torch.expm1(x * 1e-6),
            torch.expm1(x),
            x.exp2(),
            x.frac(),
            torch.round(x, decimals=1),
            torch.round(x * 100, decimals=-1),
            torch.nan_to_num(x / (x > 0)),
            torch.nan_to_num(x.log(), 1.0, 2.0, -3.0),
            x.rad2deg().deg2rad(),
            +x,
        ),
        (X,),
    ),
    "probabilities": (
        lambda x, y: (x.log1p(), x.logit(), x.logit(0.2), torch.xlogy(x.round(), y), torch.isclose(x, x + 1e-9)),
        (torch.sigmoid(X), Y),
    ),
    "second-names": (
        lambda x, y: (
            torch.multiply(x, y),
            torch.subtract(x, y, alpha=2),
            torch.true_divide(x, y),
            torch.divide(x, 2, rounding_mode="floor"),
            x.absolute().negative(),
            torch.greater(x, y),
            torch.not_equal(x, y),
            x.arctan(),
            x.clip(-1, 1),
            torch.concatenate([x, x], 1),
            torch.special.expit(x),
            x.clone().multiply_(2).clip_(0, 1),
        ),
        (X, Y),
    ),
    "fused": (
        lambda x, y: (
            torch.lerp(x, x + y, 0.3),
            torch.addcmul(x, x, y, value=0.5),
            torch.addcdiv(x, x, y.abs() + 1, value=2),
        ),
        (X, Y),
    ),
}

REDUCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "mean": (lambda x: (x.mean(), x.mean(1), x.mean((0, -1), keepdim=True)), (X,)),
    "sum": (
        lambda x, i, b: (x.sum(), x.sum(-1), i.sum(0), b.sum(), i.sum(1, dtype=torch.float32), x.sum([])),
        (X, I, B),
    ),
    "prod": (lambda x, i: (x.prod(), x.prod(1), i.prod(0)), (X, I)),
    "extremes": (
        lambda x, i: (x.amax(1), x.amin((0, 2), keepdim=True), x.max(), i.min(), *x.max(1), *x.min(-1, keepdim=True)),
        (X, I),
    ),
    "arg": (lambda x: (x.argmax(), x.argmax(1), x.argmin(-1, keepdim=True)), (X,)),
    "any-all": (lambda b, x: (b.any(), b.all(1), x.any(-1, keepdim=True)), (B, X)),
    "variance": (
        lambda x: (
            x.var(),
            x.var(1),
            x.var(1, unbiased=False),
            x.std((0, 2)),
            torch.var_mean(x, 1, correction=2),
            torch.std_mean(x, -1, keepdim=True),
        ),
        (X,),
    ),
    "norm": (
        lambda x: (
            x.norm(),
            x.norm(dim=1),
            x.norm(1, -1),
            torch.linalg.vector_norm(x, 3, 1),
            x.norm(float("inf"), 1),
            F.normalize(x, dim=1),
            F.normalize(x, 1.0, -1),
        ),
        (X,),
    ),
    "more-norms": (
        lambda x, y: (
            torch.linalg.norm(x, dim=1),
            torch.linalg.norm(x),
            F.cosine_similarity(x, y, dim=-1),
            F.cosine_similarity(x, x + 1),
            F.pairwise_distance(x, x * 2, keepdim=True),
            torch.cdist(x, x + 1),
            torch.cdist(x, x + 1, p=1),
        ),
        (X, Y),
    ),
    "counts": (lambda x, b: (*torch.aminmax(x, dim=1), x.relu().count_nonzero(1), b.count_nonzero()), (X, B)),
    "sort": (lambda x: (*x.sort(1), *x.sort(-1, descending=True), x.argsort(0)), (X,)),
    "logsumexp": (lambda x: (torch.logsumexp(x, 1), torch.logsumexp(x, (0, 2), keepdim=True)), (X,)),
    "cumsum": (lambda x, i: (x.cumsum(1), i.cumsum(-1), i.int().cumsum(0)), (X, I)),
    "softmax": (lambda x: (x.softmax(0), x.log_softmax(-1), x.softmax(1, dtype=torch.float64)), (X,)),
}

SHAPES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "view": (
        lambda x: (x.view(6, 4), x.view(-1), x.reshape(3, -1, 2), x.flatten(), x.flatten(1), x.flatten(0, 1)),
        (X,),
    ),
    "unflatten": (
        lambda x: (
            x.unflatten(-1, (2, -1)),
            x.unsqueeze(0),
            x.unsqueeze(-1),
            x.unsqueeze(1).squeeze(1),
            x[:1].squeeze(),
        ),
        (X,),
    ),
    "permute": (
        lambda x: (x.permute(2, 0, 1), x.transpose(0, -1), x[0].t(), x[0].T, x.mT, x.movedim(0, -1), x.swapaxes(0, 1)),
        (X,),
    ),
    "expand": (
        lambda x, y: (y.expand(2, 3, 4), y.expand(-1, 5), y.expand_as(x), x.repeat(2, 1, 1, 3), x.tile((2,))),
        (X, Y),
    ),
    "interleave": (lambda x: (x.repeat_interleave(2, 1), x.repeat_interleave(3)), (X,)),
    "join": (
        lambda x, y, i: (torch.cat([x, x], 1), torch.cat([x, i], -1), torch.stack([x, x], 1), torch.stack([x, x], -1)),
        (X, Y, I),
    ),
    "split": (lambda x: (*x.chunk(2, -1), *x.chunk(3, -1), *x.split(3, -1), *x.split([1, 3], 2), *x.unbind(1)), (X,)),
    "slice": (
        lambda x: (
            x[:, 1],
            x[..., -1],
            x[:, 1:],
            x[..., ::2],
            x[:, :-1],
            x[..., 1:3],
            x.narrow(1, 1, 2),
            x[:, :99],
            x[0, -1],
        ),
        (X,),
    ),
    "index": (
        lambda x: (
            x[:, torch.tensor([2, 0])],
            x[torch.tensor([[0, 1], [1, 1]])],
            x[torch.tensor([0, 1]), torch.tensor([2, -1])],
            x[..., torch.tensor([0, -1]), torch.tensor([1, 2])],
            x.index_select(-1, torch.tensor([3, 1])),
        ),
        (X,),
    ),
    "gather": (lambda x, i: (x.gather(1, i.clamp(0, 2)), x.gather(-1, i[:, :2, :1].clamp(0, 3))), (X, I)),
    "pad": (
        lambda x: (
            F.pad(x, (1, 2)),
            F.pad(x, (0, 1, 2, -1), value=1.5),
            F.pad(x, (1, 2), "reflect"),
            F.pad(x, (1, 2), "replicate"),
            F.pad(x, (1, 2), "circular"),
        ),
        (X,),
    ),
    "pad-int": (lambda i: F.pad(i, (1, 2), value=7), (I,)),
    "turn": (
        lambda x: (
            x.rot90(1, (1, 2)),
            x.rot90(-1, (0, 2)),
            x.rot90(2, (1, -1)),
            x.fliplr(),
            x.flipud(),
            x.moveaxis((0, 1), (1, 2)),
            x[:, :1].broadcast_to(5, 2, 3, 4),
        ),
        (X,),
    ),
    "stacks": (
        lambda x: (
            torch.hstack([x, x]),
            torch.vstack([x[0, 0], x[0, 1]]),
            torch.dstack([x[0], x[1]]),
            torch.dstack([x[0, 0], x[1, 0]]),
            torch.column_stack([x[0, 0], x[1, 0]]),
            torch.hstack([x[0, 0], x[1, 0]]),
        ),
        (X,),
    ),
    "tensor-split": (lambda x: (*x.tensor_split(3, -1), *x.tensor_split((1, -1), 2)), (X,)),
    "grid": (
        lambda x: (
            *torch.meshgrid(x[0, 0], x[0, :, 0], indexing="ij"),
            *torch.meshgrid(x[0, 0], x[0, :, 0], indexing="xy"),
            torch.linspace(-1, 2, 7) + x[0, 0, 0],
            torch.eye(3, 4) * x,
            torch.eye(3, dtype=torch.float64),
        ),
        (X,),
    ),
    "take-along": (
        lambda x, i: (torch.take_along_dim(x, i[:1].clamp(0, 2), 1), torch.take_along_dim(x, i.abs() % 24)),
        (X, I),
    ),
    "scatter": (
        lambda x, i: (
            x.scatter(2, (i[..., :1] % 4).abs(), x * 2),
            x.scatter(1, (i[:, :1, :2] % 3).abs(), 7.0),
            x.scatter_add(1, (i % 3).abs(), x),
        ),
        (X, I),
    ),
    "index-put": (
        lambda x: (
            x.index_put((torch.tensor([1, 0]),), x[:, :1]),
            x.index_put((torch.tensor([1, 1]), torch.tensor([0, 0])), x[:, 0], accumulate=True),
            torch.where(x > 0, x, 0).index_put((x > 1,), torch.tensor(5.0)),
        ),
        (X,),
    ),
    "roll": (lambda x: (x.flip(1), x.flip((0, 2)), x.roll(1, -1), x.roll((2, -1), (1, 2)), x.roll(5)), (X,)),
    "create": (
        lambda x: (
            torch.arange(5) + x[0, 0, 0],
            torch.arange(1, 7, 2) * 1.0 + x[0, 0, 0],
            torch.arange(0, 1, 0.25) + x[0, 0, 0],
            torch.full((2, 3), 1.5) + x[0, :, :1].T,
            torch.zeros_like(x) + x,
            x.new_ones(3) + x[0, 0, 0],
            torch.full_like(x, 2) * x,
            torch.arange(5, 0, -2) + x[0, 0, 0],
        ),
        (X,),
    ),
    "topk": (lambda x: (*x.topk(2), *x.topk(2, 1, largest=False)), (X,)),
    "one-hot": (lambda i: F.one_hot(i.clamp(0, 4), 5), (I,)),
    "triangle": (lambda x: (x.triu(), x.tril(-1), x.tril(1)), (X,)),
    "embedding": (lambda i, w: F.embedding(i.clamp(0, 4), w), (I, rand(5, 6))),
}

PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "matmul": (
        lambda a, b: (a @ b, a[0] @ b[0], a @ b[0], a[0, 0] @ b[0], a[0] @ b[0, :, 0]),
        (rand(2, 3, 4), rand(2, 4, 5)),
    ),
    "outer": (
        lambda a, b: (torch.outer(a[0, 0], b[0, 0]), torch.vdot(a[0, 0], b[0, :, 0])),
        (rand(2, 3, 4), rand(2, 4, 5)),
    ),
    "mm": (
        lambda a, b: (torch.bmm(a, b), torch.mm(a[0], b[0]), torch.dot(a[0, 0], b[0, :, 0])),
        (rand(2, 3, 4), rand(2, 4, 5)),
    ),
    "addmm": (
        lambda a, b, c: (
            torch.addmm(c, a[0], b[0]),
            torch.addmm(c, a[0], b[0], beta=0.5, alpha=2),
            torch.baddbmm(c, a, b, alpha=0.3),
        ),
        (rand(2, 3, 4), rand(2, 4, 5), rand(3, 5)),
    ),
    "einsum": (
        lambda a, b: (
            torch.einsum("bij,bjk->bik", a, b),
            torch.einsum("bij,bjk", a, b),
            torch.einsum("...ij->...", a),
            torch.einsum("bij,bjk->ki", a, b),
        ),
        (rand(2, 3, 4), rand(2, 4, 5)),
    ),
}

ALL = {
    f"{family}-{name}": row
    for family, table in (
        ("elementwise", ELEMENTWISE),
        ("reduce", REDUCTIONS),
        ("shape", SHAPES),
        ("product", PRODUCTS),
    )
    for name, row in table.items()
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_function(name: str, convert: Any, apply: Any) -> None:
    function, inputs = ALL[name]
    convert(apply(function), *inputs)


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("first", DTYPES)
def test_promotion_is_torchs(first: str) -> None:
    from isomorph.converters.torch.promotion import result_type
    from isomorph.ir import DType, TensorType, Value

    def value(tensor: Any) -> Value:
        return Value("x", TensorType(DType(str(tensor.dtype)[6:]), tuple(tensor.shape)))

    tensors = [torch.ones(shape, dtype=getattr(torch, name)) for name in DTYPES for shape in ((), (2,))]
    for shape, other in itertools.product(((), (2,)), [*tensors, True, 1, 1.5]):
        mine = torch.ones(shape, dtype=getattr(torch, first))
        theirs = value(other) if isinstance(other, torch.Tensor) else other
        assert str(torch.result_type(mine, other))[6:] == result_type(value(mine), theirs).value
