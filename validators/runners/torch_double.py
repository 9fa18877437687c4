"""Float64 runs of PyTorch code, exact or with noise (validators/monte_carlo.py), by dispatch modes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from isomorph.validators.monte_carlo import Noise
from isomorph.validators.runners.torch_quantized import quantized_in_double

__all__ = ["EXACT", "WIDE", "Noisy", "doubled", "in_double", "widened"]

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
WIDE = {**dict.fromkeys(_NARROW, torch.float64), torch.complex64: torch.complex128}

# Results are elements of the operands, or decisions about them.
_COPIES_AND_DECISIONS = """
clone copy _to_copy contiguous split split_with_sizes chunk unbind unsafe_split unsafe_chunk detach cat stack
constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d gather index index_select slice_scatter select_scatter
diagonal_scatter as_strided_scatter scatter index_put _index_put_impl index_copy index_fill
masked_fill masked_scatter masked_select where repeat repeat_interleave flip roll tril triu diag_embed take
one_hot fill zero embedding lift_fresh_copy complex constant pixel_shuffle pixel_unshuffle channel_shuffle im2col
empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones ones_like new_ones full
full_like new_full arange eye scalar_tensor tril_indices triu_indices
relu threshold clamp clamp_min clamp_max hardtanh relu6 abs neg sign sgn signbit floor ceil round trunc nan_to_num
max min amax amin aminmax maximum minimum fmax fmin argmax argmin cummax cummin sort topk kthvalue median mode
max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d
upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
eq ne lt le gt ge equal isnan isinf isfinite isposinf isneginf logical_and logical_or logical_not logical_xor
bitwise_and bitwise_or bitwise_not bitwise_xor any all nonzero unique_consecutive _unique2 unique_dim bucketize
searchsorted _local_scalar_dense item bernoulli rand randn randint randperm rand_like randn_like uniform normal
"""
# One rounding (or a few) of the result.
_ARITHMETIC = """
add sub rsub mul div pow sqrt rsqrt reciprocal square exp exp2 expm1 log log1p log2 log10 sin cos tan asin acos
atan sinh cosh tanh asinh acosh atanh atan2 erf erfc erfinv hypot lerp addcmul addcdiv logaddexp logaddexp2 sigmoid
silu gelu elu celu selu softplus mish hardsigmoid hardswish log_sigmoid_forward leaky_relu _prelu_kernel glu
fmod remainder _softmax _log_softmax logit xlogy
"""
EXACT = frozenset(_COPIES_AND_DECISIONS.split())
_ELEMENTWISE = frozenset(_ARITHMETIC.split())
# The c of functions that are computed as c + g(x): how large the terms are that cancel.
_TERMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sigmoid": torch.ones_like,
    "hardsigmoid": torch.ones_like,
    "log_sigmoid_forward": torch.ones_like,
    "elu": torch.ones_like,
    "celu": torch.ones_like,
    "selu": lambda x: 1.76 * torch.ones_like(x),
    "silu": torch.abs,
    "gelu": torch.abs,
    "hardswish": torch.abs,
}

_BATCH_NORM = ("native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update")
_TRANSFORMS = ("_fft_r2c", "_fft_c2c", "_fft_c2r")


def in_double(call: Callable[[], Any], noise: Noise | None = None, inputs: Iterable[Any] = ()) -> Any:
    """Call under a widening mode with float64 as the default dtype. `inputs` are the tensors that are no part of the
    model. Raises NotImplementedError if a value stayed narrow."""
    mode = _mode(noise, inputs)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), mode:
            values = call()
    finally:
        torch.set_default_dtype(default)
    if mode.narrow is not None:
        raise NotImplementedError(f"`{mode.narrow}` still gives a narrow float in the float64 run")
    return values


def _mode(noise: Noise | None, inputs: Iterable[Any]) -> _Widening:
    if noise is None or noise.precision is None:
        return _Widening() if noise is None else Noisy(noise)
    from isomorph.validators.runners.torch_precision import Rounding

    return Rounding(noise, noise.precision, inputs)


def widened(value: Any) -> Any:
    """A dtype or a tensor in float64 or complex128; anything else as it is."""
    if isinstance(value, torch.dtype):
        return WIDE.get(value, value)
    if isinstance(value, torch.Tensor) and value.dtype in WIDE:
        return value.to(WIDE[value.dtype])
    return value


class _Widening(TorchDispatchMode):
    """Rewrites narrow float dtypes among the arguments, and remembers the first result that is narrow all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = quantized_in_double(func)
        if own is not None:
            return own(*args, **(kwargs or {}))
        args, kwargs = tree_map(widened, (args, kwargs or {}))
        result = self.call(func, args, kwargs)
        if self.narrow is None and any(
            isinstance(r, torch.Tensor) and r.dtype in WIDE for r in tree_flatten(result)[0]
        ):
            self.narrow = str(func)
        return result

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        return func(*args, **kwargs)


class Noisy(_Widening):
    """Besides, adds the noise of an implementation to each result; what an operation writes in place stays in place."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self._amplitude = noise.amplitude
        self._generator = torch.Generator().manual_seed(noise.seed)

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = func._schema.name.split("::")[-1]
        writes = func._schema.is_mutable
        name = name.removesuffix("_") if writes else name
        views = any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)
        if views or name in EXACT:
            return func(*args, **kwargs)
        terms = _TERMS[name](args[0]) if name in _TERMS else None
        if name in _BATCH_NORM:  # they write running statistics, and declare it or not
            args = (*(self._moved(each) for each in args[:3]), *args[3:])
        elif name not in _ELEMENTWISE and not writes:
            args, kwargs = tree_map(self._moved, (args, kwargs))
        result = func(*args, **kwargs)
        if name in _TRANSFORMS:
            return result + self._chirped(result, _lengths(name, args))
        if writes and name not in _BATCH_NORM:
            for written in filter(_is_float, tree_flatten(result)[0]):
                written.copy_(self._moved(written, terms))
            return result
        return tree_map(lambda each: self._moved(each, terms), result)

    def _moved(self, value: Any, terms: torch.Tensor | None = None) -> Any:
        """A new tensor with noise in proportion to the elements, and to `terms` where they have its shape."""
        if not _is_float(value):
            return value
        moved = value * (1 + self._draw(value.shape))
        return moved if terms is None or terms.shape != value.shape else moved + terms * self._draw(())

    def _chirped(self, result: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """The error of Fourier transforms by chirps, white over the result."""
        unit = sum(math.pi * length / 8 for length in lengths if length & (length - 1))
        size = result.abs().square().mean().sqrt() * unit
        noise = self._draw(result.shape)
        return size * (torch.complex(noise, self._draw(result.shape)) if result.is_complex() else noise)

    def _draw(self, shape: Any) -> torch.Tensor:
        uniform = torch.rand(shape, dtype=torch.float64, generator=self._generator)
        return uniform.mul_(2 * self._amplitude).sub_(self._amplitude)


def _lengths(name: str, args: Sequence[Any]) -> list[int]:
    """How many samples each axis of a Fourier transform has."""
    lengths = [int(args[0].shape[axis]) for axis in args[1]]
    return [*lengths[:-1], int(args[3])] if name == "_fft_c2r" else lengths


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def doubled(module: torch.nn.Module) -> torch.nn.Module:
    """A copy in float64 and complex128, tensors that are plain attributes included."""
    for part in module.modules():
        for name, value in [*part._buffers.items(), *vars(part).items()]:
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(part, name, value.detach())  # a state that gradients were followed through
    double = copy.deepcopy(module, _sharing(module))
    known: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}  # the narrow ones, too: no memory is used again meanwhile
    for part in double.modules():
        tensors = (*part.parameters(recurse=False), *part.buffers(recurse=False), *vars(part).values())
        for held in tensors:
            if isinstance(held, torch.Tensor) and held.dtype in WIDE:
                place = (held.data_ptr(), held.shape, held.stride(), held.dtype) if held.numel() else id(held)
                narrow = held.data
                held.data = known.setdefault(place, (narrow, widened(narrow)))[1]  # a cache of two names stays one
    return double


def _sharing(module: torch.nn.Module) -> dict[int, Any]:
    """A memo for copy.deepcopy under which the copy's tensors have the memory of the module's: they are replaced."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for held in (*part._parameters.values(), *part._buffers.values()):
            if type(held) is torch.nn.Parameter and held.dtype in WIDE:
                memo[id(held)] = torch.nn.Parameter(held.detach(), requires_grad=False)
            elif type(held) is torch.Tensor and held.dtype in WIDE:
                memo[id(held)] = held.detach()
    return memo
