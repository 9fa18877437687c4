"""Monte Carlo arithmetic (validators/monte_carlo.py) for JAX: a jaxpr, interpreted equation by equation with noise.

Calls, branches and loops are entered; everything else is one operation, run by JAX. Each round of a loop draws anew.
See: jax.core.Jaxpr; jax.lax.{scan, while_loop, switch}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from isomorph.validators.monte_carlo import Noise

__all__ = ["run_with_noise"]

# Results are elements of the operands, or decisions about them.
_COPIES_AND_DECISIONS = """
reshape broadcast_in_dim transpose squeeze expand_dims concatenate pad slice dynamic_slice dynamic_update_slice gather
scatter scatter_min scatter_max rev select_n split iota convert_element_type reduce_precision bitcast_convert_type copy
copy_p device_put stop_gradient optimization_barrier sharding_constraint tile real imag complex conj create_token empty
max min abs neg sign floor ceil round clamp reduce_max reduce_min argmax argmin sort top_k approx_top_k cummax cummin
reduce_window_max reduce_window_min select_and_gather_add select_and_scatter_add eq ne lt le gt ge and or not xor
is_finite reduce_and reduce_or reduce_xor shift_left shift_right_logical shift_right_arithmetic population_count clz
random_seed random_wrap random_unwrap random_bits random_fold_in random_split threefry2x32 rng_bit_generator
"""
# One rounding (or a few) of the result.
_ARITHMETIC = """
add add_any sub mul div rem pow integer_pow square sqrt rsqrt cbrt exp exp2 expm1 log log1p log2 sin cos tan asin acos
atan atan2 sinh cosh tanh asinh acosh atanh erf erfc erf_inv logistic lgamma digamma nextafter
"""
_EXACT = frozenset(_COPIES_AND_DECISIONS.split())
_ELEMENTWISE = frozenset(_ARITHMETIC.split())
# The c of functions that are computed as c + g(x): how large the terms are that cancel.
_TERMS = {"logistic": 1.0}
# Only call another jaxpr, which is one of these parameters.
_CALL_NAMES = """
jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr
"""
_CALLS = frozenset(_CALL_NAMES.split())
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def run_with_noise(closed: Any, operands: Sequence[Any], noise: Noise) -> list[Any]:
    """The results of a closed jaxpr, of the run with this noise: the same for the same noise."""
    return _Interpreter(noise).call(closed, operands)


class _Interpreter:
    def __init__(self, noise: Noise) -> None:
        self._amplitude = noise.amplitude
        self._rng = np.random.default_rng(noise.seed)
        self._loops: dict[str, Callable[[Any, list[Any]], list[Any]]] = {
            "scan": self._scan,
            "while": self._while,
            "cond": self._cond,
        }

    def call(self, closed: Any, operands: Sequence[Any]) -> list[Any]:
        jaxpr, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "consts") else (closed, ())
        known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *operands], strict=True))

        def read(variable: Any) -> Any:
            return variable.val if isinstance(variable, Literal) else known[variable]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(variable) for variable in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in self._loops:
            return self._loops[name](equation.params, operands)
        if name in _CALLS:
            return self.call(next(equation.params[key] for key in _CALLED if key in equation.params), operands)
        exact = name in _EXACT
        if not exact and name not in _ELEMENTWISE:
            operands = [self._moved(each) for each in operands]
        made = equation.primitive.bind(*operands, **equation.params)
        results = list(made) if equation.primitive.multiple_results else [made]
        return results if exact else [self._moved(each, _TERMS.get(name, 0.0)) for each in results]

    def _moved(self, value: Any, terms: float = 0.0) -> Any:
        """A new array with noise in proportion to the elements, and one draw for all in proportion to `terms`."""
        if np.result_type(value).kind not in "fc":
            return value
        array = np.asarray(value)
        draws = self._rng.uniform(-self._amplitude, self._amplitude, array.shape)
        moved = array * (1 + draws)
        if terms:
            moved = moved + terms * self._rng.uniform(-self._amplitude, self._amplitude)
        return jax.numpy.asarray(moved, array.dtype)

    def _scan(self, parameters: Any, operands: list[Any]) -> list[Any]:
        first = parameters["num_consts"]
        last = first + parameters["num_carry"]
        fixed, carry, sequences = operands[:first], operands[first:last], operands[last:]
        steps = range(parameters["length"])
        made: list[list[Any]] = []
        for step in reversed(steps) if parameters["reverse"] else steps:
            results = self.call(parameters["jaxpr"], [*fixed, *carry, *(each[step] for each in sequences)])
            carry = results[: len(carry)]
            made.append(results[len(carry) :])
        if parameters["reverse"]:
            made.reverse()
        if not made:
            kinds = parameters["jaxpr"].out_avals[len(carry) :]
            return [*carry, *(jax.numpy.zeros((0, *kind.shape), kind.dtype) for kind in kinds)]
        return [*carry, *(jax.numpy.stack(rows) for rows in zip(*made, strict=True))]

    def _while(self, parameters: Any, operands: list[Any]) -> list[Any]:
        first = parameters["cond_nconsts"]
        last = first + parameters["body_nconsts"]
        tested, fixed, carry = operands[:first], operands[first:last], operands[last:]
        while bool(self.call(parameters["cond_jaxpr"], [*tested, *carry])[0]):
            carry = self.call(parameters["body_jaxpr"], [*fixed, *carry])
        return carry

    def _cond(self, parameters: Any, operands: list[Any]) -> list[Any]:
        branches = parameters["branches"]
        chosen = min(max(int(operands[0]), 0), len(branches) - 1)
        return self.call(branches[chosen], operands[1:])
