"""What each call of torch becomes in ONNX: a table of functions, one for each operator of torch.

A node works in the type that torch worked in, for ONNX converts nothing by itself.
https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import helper
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.nn.onnx_nodes import Nodes, numpy_type, onnx_type
from physgen.nn.recorded import BatchSize, Call, Constant, Operand, Value

__all__ = ["OPERATORS"]

FAR = 2**62
"""Ends of slices beyond which there is nothing."""

Operator = Callable[..., str | list[str]]
OPERATORS: dict[str, Operator] = {}
"""A call of torch → the function that writes it: (graph, call, arguments) → names of results."""


def operator_of(*names: str) -> Callable[[Operator], Operator]:
    """Register the function that writes some calls."""

    def registered(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return registered


def result(call: Call) -> Value:
    """The first result of a call."""
    return call.results[0]


def axes_from_zero(call: Call, dims: Any, rank: int) -> list[int]:
    """Axes from 0 on, all of them where none is named."""
    some = range(rank) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    return [d % rank for d in some]


# --- of each number -----------------------------------------------------------------------------


def unary_node(kind: str) -> Operator:
    """A function of each number that ONNX has."""

    def write(g: Nodes, call: Call, a: Operand) -> str:
        return g.node(kind, g.name(a, result(call).dtype))

    return write


def binary_node(kind: str) -> Operator:
    """A function of two numbers, in the type of its result."""

    def write(g: Nodes, call: Call, a: Any, b: Any, alpha: float = 1, **_: Any) -> str:
        dtype = result(call).dtype
        second = g.name(b, dtype)
        if alpha != 1:
            second = g.node("Mul", second, g.scalar(alpha, dtype))
        both = kind == "Mul" and dtype == torch.bool  # as in isfinite
        return g.node("And" if both else kind, g.name(a, dtype), second)

    return write


def compare_node(kind: str) -> Operator:
    """A comparison of two numbers, in the type that both fit in."""

    def write(g: Nodes, call: Call, a: Operand, b: Any) -> str:
        dtype = common_type(a, b)
        return g.node(kind, g.name(a, dtype), g.name(b, dtype))

    return write


def common_type(a: Operand, b: Any) -> torch.dtype:
    """The type in which torch compares two operands, or one and a number."""
    first = torch.zeros([1] * len(a.shape), dtype=a.dtype)
    is_operand = isinstance(b, Operand)
    second = torch.zeros([1] * len(b.shape), dtype=b.dtype) if is_operand else b
    return torch.result_type(first, second)


UNARY = {
    "exp": "Exp", "log": "Log", "tanh": "Tanh", "sqrt": "Sqrt", "neg": "Neg", "abs": "Abs",
    "sign": "Sign", "round": "Round", "sin": "Sin", "cos": "Cos", "reciprocal": "Reciprocal",
    "floor": "Floor", "logical_not": "Not", "bitwise_not": "Not", "sigmoid": "Sigmoid",
    "relu": "Relu", "erf": "Erf", "tan": "Tan", "atanh": "Atanh",
    "asinh": "Asinh",
}  # fmt: skip
ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
)  # fmt: skip
BESSEL = (
    0.00032411, 0.00301532, 0.02658733, 0.15084934, 0.51498869, 0.87890594, 0.5,
)  # fmt: skip
BESSEL_FAR = (
    -0.00420059, 0.01787654, -0.02895312, 0.02282967, -0.01031555, 0.00163801, -0.00362018,
    -0.03988024, 0.39894228,
)  # fmt: skip
QUANTILE = (
    (
        (
            2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
            4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
            1.3314166789178437745e2, 3.3871328727963666080e0,
        ),
        (
            5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
            2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
            4.2313330701600911252e1, 1.0,
        ),
    ),
    (
        (
            7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
            1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
            4.63033784615654529590e0, 1.42343711074968357734e0,
        ),
        (
            1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
            1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
            2.05319162663775882187e0, 1.0,
        ),
    ),
    (
        (
            2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
            2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
            5.46378491116411436990e0, 6.65790464350110377720e0,
        ),
        (
            2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
            7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
            5.99832206555887937690e-1, 1.0,
        ),
    ),
)  # fmt: skip
STIRLING = 1 / 1260, -1 / 360, 1 / 12
BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min",
    "bitwise_and": "And", "bitwise_or": "Or", "logical_and": "And", "logical_or": "Or",
}  # fmt: skip
COMPARISONS = {
    "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "eq": "Equal",
}  # fmt: skip
OPERATORS |= {f"{name}.default": unary_node(kind) for name, kind in UNARY.items()}
OPERATORS |= {
    f"{name}{write}.{kind}": make(onnx_kind)
    for make, table in ((binary_node, BINARY), (compare_node, COMPARISONS))
    for name, onnx_kind in table.items()
    for kind in ("Tensor", "Scalar", "default")
    for write in ("", "_")
}


@operator_of("isnan.default", "isinf.default")
def kind_of_number_node(g: Nodes, call: Call, a: Operand) -> str:
    """Whether a number is none, or infinite."""
    return g.node("IsNaN" if "isnan" in call.name else "IsInf", g.name(a))


@operator_of("ne.Tensor", "ne.Scalar")
def not_equal_node(g: Nodes, call: Call, a: Operand, b: Any) -> str:
    """Whether two numbers differ."""
    return g.node("Not", str(compare_node("Equal")(g, call, a, b)))


@operator_of("remainder.Scalar")
def remainder_node(g: Nodes, call: Call, a: Operand, b: Any) -> str:
    """What is left of whole numbers, with the sign of the divisor."""
    dtype = result(call).dtype
    if dtype.is_floating_point:
        raise UsageError(f"takes remainders of {dtype}")
    return g.node("Mod", g.name(a, dtype), g.name(b, dtype))


@operator_of("rsub.Scalar", "rsub.Tensor")
def reversed_difference_node(g: Nodes, call: Call, a: Operand, b: Any, alpha: float = 1) -> str:
    """b − α a."""
    return str(binary_node("Sub")(g, call, b, a, alpha=alpha))


@operator_of("addcmul.default")
def product_added_node(
    g: Nodes, call: Call, a: Operand, b: Operand, c: Operand, value: float = 1
) -> str:
    """a + value · b c."""
    product = g.node("Mul", g.name(b), g.name(c))
    if value != 1:
        product = g.node("Mul", product, g.scalar(value, b.dtype))
    return g.node("Add", g.name(a), product)


@operator_of("pow.Tensor_Scalar", "pow.Tensor_Tensor")
def power_node(g: Nodes, call: Call, a: Operand, b: Any) -> str:
    """a to the power of b; a square as a product."""
    dtype = result(call).dtype
    base = g.name(a, dtype)
    if b == 2:
        return g.node("Mul", base, base)
    return g.node("Pow", base, g.name(b, dtype))


@operator_of("hypot.default")
def hypotenuse_node(g: Nodes, call: Call, a: Operand, b: Operand) -> str:
    """√(a² + b²)."""
    dtype = result(call).dtype
    squares = [g.node("Mul", x, x) for x in (g.name(a, dtype), g.name(b, dtype))]
    return g.node("Sqrt", g.node("Add", *squares))


@operator_of("special_ndtri.default")
def normal_quantile_node(g: Nodes, call: Call, a: Operand) -> str:
    """z of Φ(z) = p in (0, 1), right to 1e-15 of itself (Wichura 1988, AS 241, PPND16)."""
    dtype = result(call).dtype
    p, half = g.name(a, dtype), g.name(0.5, dtype)
    q = g.node("Sub", p, half)
    central = g.node("Sub", g.name(0.425**2, dtype), g.node("Mul", q, q))
    near = g.node(
        "Mul", q, ratio(g, *QUANTILE[0], g.node("Max", central, g.name(0.0, dtype)), dtype)
    )
    tail = g.node("Min", p, g.node("Sub", g.name(1.0, dtype), p))
    r = g.node("Sqrt", g.node("Neg", g.node("Log", tail)))
    edge = g.name(5.0, dtype)
    some, far = (
        ratio(g, *table, g.node("Sub", end, g.name(start, dtype)), dtype)
        for table, end, start in (
            (QUANTILE[1], g.node("Min", r, edge), 1.6),
            (QUANTILE[2], g.node("Max", r, edge), 5.0),
        )
    )
    beyond = g.node("Mul", g.node("Sign", q), g.node("Where", g.node("Less", r, edge), some, far))
    inside = g.node("Less", g.node("Abs", q), g.name(0.425, dtype))
    return g.node("Where", inside, near, beyond)


def ratio(
    g: Nodes, above: Sequence[float], below: Sequence[float], x: str, dtype: torch.dtype
) -> str:
    """A ratio of two polynomials in x."""
    return g.node("Div", polynomial(g, above, x, dtype), polynomial(g, below, x, dtype))


def polynomial(g: Nodes, coefficients: Sequence[float], x: str, dtype: torch.dtype) -> str:
    """A polynomial in x, the coefficient of its highest power first."""
    value = g.name(coefficients[0], dtype)
    for coefficient in coefficients[1:]:
        value = g.node("Add", g.node("Mul", value, x), g.name(coefficient, dtype))
    return value


@operator_of("special_i1e.default")
def bessel_node(g: Nodes, call: Call, a: Operand) -> str:
    """e^{−a} I₁(a) of a ≥ 0, right to 6e-7 of itself (Abramowitz & Stegun 1964, 9.8.3 and 4)."""
    dtype = result(call).dtype
    x, edge = g.name(a, dtype), g.name(3.75, dtype)
    t = g.node("Div", g.node("Min", x, edge), edge)
    near = g.node("Mul", x, polynomial(g, BESSEL, g.node("Mul", t, t), dtype))
    near = g.node("Mul", near, g.node("Exp", g.node("Neg", x)))
    above = g.node("Max", x, edge)
    far = polynomial(g, BESSEL_FAR, g.node("Div", edge, above), dtype)
    far = g.node("Div", far, g.node("Sqrt", above))
    return g.node("Where", g.node("Less", x, edge), near, far)


@operator_of("special_erfc.default", "erfc.default")
def erfc_node(g: Nodes, call: Call, a: Operand) -> str:
    """t exp(−a² + a polynomial in t), t = 1/(1 + |a|/2), right to 1.2e-7 of itself.

    That is of a ≥ 0, and 2 less it of −a (Press et al. 2007, Numerical Recipes, 6.2.2): 1 − erf(a)
    would lose the tail.
    """
    dtype = result(call).dtype
    x, one, two = g.name(a, dtype), g.name(1.0, dtype), g.name(2.0, dtype)
    size = g.node("Abs", x)
    t = g.node("Div", one, g.node("Add", one, g.node("Div", size, two)))
    power = g.node("Sub", polynomial(g, ERFC, t, dtype), g.node("Mul", size, size))
    tail = g.node("Mul", t, g.node("Exp", power))
    return g.node("Where", g.node("Less", x, g.name(0.0, dtype)), g.node("Sub", two, tail), tail)


@operator_of("softplus.default")
def softplus_node(g: Nodes, call: Call, a: Operand, beta: float = 1, _: float = 20) -> str:
    """log(1 + e^{βa})/β."""
    if beta == 1:
        return g.node("Softplus", g.name(a))
    scale = g.scalar(beta, a.dtype)
    return g.node("Div", g.node("Softplus", g.node("Mul", g.name(a), scale)), scale)


@operator_of("silu.default")
def silu_node(g: Nodes, call: Call, a: Operand) -> str:
    """a σ(a)."""
    return g.node("Mul", g.name(a), g.node("Sigmoid", g.name(a)))


@operator_of("log_sigmoid_forward.default")
def log_sigmoid_nodes(g: Nodes, call: Call, a: Operand) -> list[str]:
    """log σ(a) = −log(1 + e^{−a}), and a buffer of torch's that nothing reads."""
    name = g.node("Neg", g.node("Softplus", g.node("Neg", g.name(a))))
    return [name, name]


@operator_of("log1p.default")
def log_of_one_more_node(g: Nodes, call: Call, a: Operand) -> str:
    """log(1 + a); of a small a 2 artanh(a/(a + 2)), which loses no digits."""
    x, half = g.name(a), g.scalar(0.5, a.dtype)
    near = g.node("Atanh", g.node("Div", x, g.node("Add", x, g.scalar(2.0, a.dtype))))
    far = g.node("Log", g.node("Add", x, g.scalar(1.0, a.dtype)))
    return g.node("Where", g.node("Less", g.node("Abs", x), half), g.node("Add", near, near), far)


@operator_of("expm1.default")
def exponential_less_one_node(g: Nodes, call: Call, a: Operand) -> str:
    """e^a − 1; of a small a 2 t/(1 − t), t = tanh(a/2), which loses no digits."""
    x, one = g.name(a), g.scalar(1.0, a.dtype)
    t = g.node("Tanh", g.node("Mul", x, g.scalar(0.5, a.dtype)))
    near = g.node("Div", g.node("Add", t, t), g.node("Sub", one, t))
    far = g.node("Sub", g.node("Exp", x), one)
    return g.node("Where", g.node("Less", g.node("Abs", x), one), near, far)


@operator_of("lgamma.default")
def log_gamma_node(g: Nodes, call: Call, a: Operand) -> str:
    """log Γ(a) of a > 0: Stirling's series at y = a + 7, less the logarithms of a … a + 6."""
    dtype = result(call).dtype
    x = g.name(a, dtype)
    y = g.node("Add", x, g.name(7.0, dtype))
    inverse = g.node("Reciprocal", y)
    square = g.node("Mul", inverse, inverse)
    series = polynomial(g, STIRLING, square, dtype)
    value = g.node("Mul", g.node("Sub", y, g.name(0.5, dtype)), g.node("Log", y))
    value = g.node("Add", g.node("Sub", value, y), g.name(0.5 * math.log(2 * math.pi), dtype))
    value = g.node("Add", value, g.node("Mul", series, inverse))
    for k in range(7):
        value = g.node("Sub", value, g.node("Log", g.node("Add", x, g.name(float(k), dtype))))
    return value


@operator_of("sinh.default")
def hyperbolic_sine_node(g: Nodes, call: Call, a: Operand) -> str:
    """(e^a − e^−a)/2, which runtimes have in float64."""
    up = g.node("Exp", g.name(a))
    down = g.node("Exp", g.node("Neg", g.name(a)))
    return g.node("Mul", g.node("Sub", up, down), g.scalar(0.5, a.dtype))


@operator_of("logit.default")
def log_odds_node(g: Nodes, call: Call, a: Operand, eps: float | None = None) -> str:
    """log a/(1 − a), with a kept away from 0 and 1."""
    p, one = g.name(a), g.scalar(1.0, a.dtype)
    if eps is not None:
        p = g.node("Max", p, g.scalar(eps, a.dtype))
        p = g.node("Min", p, g.scalar(1 - eps, a.dtype))
    return g.node("Log", g.node("Div", p, g.node("Sub", one, p)))


@operator_of("copysign.Tensor")
def with_sign_node(g: Nodes, call: Call, a: Operand, b: Operand) -> str:
    """|a| with the sign of b."""
    size, negative = g.node("Abs", g.name(a)), g.node("Less", g.name(b), g.scalar(0.0, b.dtype))
    return g.node("Where", negative, g.node("Neg", size), size)


@operator_of("clamp.default", "clamp.Tensor", "clamp_min.default", "clamp_max.default")
def clamped_node(g: Nodes, call: Call, a: Operand, *bounds: Any, **named: Any) -> str:
    """a within bounds."""
    if call.name == "aten.clamp_max.default":
        bounds = (None, *bounds)
    low, high = (*bounds, named.get("min"), named.get("max"))[:2] if len(bounds) != 1 else (
        bounds[0], named.get("max"),
    )  # fmt: skip
    dtype = result(call).dtype
    name = g.name(a, dtype)
    if low is not None:
        name = g.node("Max", name, g.name(low, dtype))
    return name if high is None else g.node("Min", name, g.name(high, dtype))


@operator_of("where.self")
def chosen_node(g: Nodes, call: Call, condition: Operand, a: Operand, b: Operand) -> str:
    """a where the condition holds, else b."""
    dtype = result(call).dtype
    return g.node("Where", g.name(condition), g.name(a, dtype), g.name(b, dtype))


@operator_of(
    "clone.default", "alias.default", "detach.default", "contiguous.default", "lift_fresh.default"
)
def unchanged_node(g: Nodes, call: Call, a: Operand, **_: Any) -> str:
    """a itself."""
    return g.name(a)


@operator_of("_to_copy.default")
def converted_node(g: Nodes, call: Call, a: Operand, **_: Any) -> str:
    """a in another type."""
    return g.name(a, result(call).dtype)


@operator_of("empty_like.default", "zeros_like.default", "ones_like.default", "full_like.default")
def filled_node(g: Nodes, call: Call, a: Operand, value: float | None = None, **_: Any) -> str:
    """One number everywhere."""
    value = float("ones" in call.name) if value is None else value
    return g.node("Expand", g.scalar(value, result(call).dtype), g.sizes(a.shape))


@operator_of("new_zeros.default", "new_ones.default", "new_full.default")
def new_filled_node(
    g: Nodes, call: Call, a: Operand, shape: Any, value: float | None = None, **_: Any
) -> str:
    """One number everywhere, of another shape."""
    return str(filled_node(g, call, result(call), value))


# --- shapes -------------------------------------------------------------------------------------


@operator_of("view.default", "_unsafe_view.default", "reshape.default")
def reshaped_node(g: Nodes, call: Call, a: Operand, shape: Any) -> str:
    """The same numbers in another shape."""
    return g.reshaped(g.name(a), result(call).shape)


@operator_of("unsqueeze.default", "squeeze.dim", "squeeze.dims", "squeeze.default")
def with_axis_node(g: Nodes, call: Call, a: Operand, dims: Any = None) -> str:
    """One axis of size 1 more, or fewer."""
    return g.reshaped(g.name(a), result(call).shape)


@operator_of("expand.default")
def expanded_node(g: Nodes, call: Call, a: Operand, shape: Any, **_: Any) -> str:
    """Axes of size 1 repeated."""
    whole = result(call).shape
    kept = [1] * (len(whole) - len(a.shape)) + list(a.shape)
    wanted = [1 if n == m else m for n, m in zip(kept, whole, strict=True)]
    if len(a.shape) == len(whole) and all(n == 1 for n in wanted):
        return g.name(a)
    return g.node("Expand", g.name(a), g.sizes(wanted))


@operator_of("repeat.default")
def repeated_node(g: Nodes, call: Call, a: Operand, times: Any) -> str:
    """The whole, side by side."""
    name = g.reshaped(g.name(a), [*[1] * (len(times) - len(a.shape)), *a.shape])
    return g.node("Tile", name, g.sizes(times))


@operator_of("permute.default")
def permuted_node(g: Nodes, call: Call, a: Operand, dims: Sequence[int]) -> str:
    """Axes in another order."""
    return g.node("Transpose", g.name(a), perm=axes_from_zero(call, dims, len(a.shape)))


@operator_of("transpose.int", "t.default")
def transposed_node(g: Nodes, call: Call, a: Operand, i: int = 0, j: int = 1) -> str:
    """Two axes exchanged."""
    order = list(range(len(a.shape)))
    if len(order) > 1:
        order[i], order[j] = order[j], order[i]
    return g.node("Transpose", g.name(a), perm=order)


@operator_of("slice.Tensor")
def sliced(
    g: Nodes,
    call: Call,
    a: Operand,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> str:
    """A part of one axis."""
    if result(call).shape == a.shape:
        return g.name(a)
    if isinstance(start, BatchSize) or isinstance(end, BatchSize):
        raise UsageError("takes a part of the rows")
    ends = FAR if end is None else min(end, FAR)
    return part(g, g.name(a), dim % len(a.shape), start or 0, ends, step)


def part(g: Nodes, name: str, axis: int, start: int, end: int, step: int = 1) -> str:
    """From start to end along an axis."""
    return g.node("Slice", name, *(g.constant([v]) for v in (start, end, axis, step)))


@operator_of("flip.default")
def flipped_node(g: Nodes, call: Call, a: Operand, dims: Sequence[int]) -> str:
    """Axes from their ends."""
    name = g.name(a)
    for axis in axes_from_zero(call, dims, len(a.shape)):
        name = part(g, name, axis, -1, -FAR, -1)
    return name


@operator_of("roll.default")
def rolled_node(
    g: Nodes, call: Call, a: Operand, shifts: Sequence[int], dims: Sequence[int]
) -> str:
    """Axes shifted, their ends joined."""
    name = g.name(a)
    for shift, axis in zip(shifts, axes_from_zero(call, dims, len(a.shape)), strict=True):
        cut = -shift % a.size(axis)
        halves = part(g, name, axis, cut, FAR), part(g, name, axis, 0, cut)
        name = g.node("Concat", *halves, axis=axis)
    return name


@operator_of("select.int")
def selected_node(g: Nodes, call: Call, a: Operand, dim: int, index: int) -> str:
    """One of an axis."""
    return g.node("Gather", g.name(a), g.constant(index), axis=dim % len(a.shape))


@operator_of("split.Tensor", "split_with_sizes.default", "unbind.int")
def parted_node(g: Nodes, call: Call, a: Operand, *given: Any) -> list[str]:
    """Parts along an axis."""
    name, ends = g.name(a), 0
    if len(call.results) == 1 and call.name != "aten.unbind.int":
        return [name]
    if call.name == "aten.unbind.int":
        axis = (given[0] if given else 0) % len(a.shape)
        return [g.node("Gather", name, g.constant(i), axis=axis) for i in range(len(call.results))]
    axis, found = (given[1] if len(given) > 1 else 0) % len(a.shape), []
    for piece in call.results:
        start, ends = ends, ends + piece.size(axis)
        found.append(part(g, name, axis, start, ends))
    return found


@operator_of("cat.default")
def joined_along_node(g: Nodes, call: Call, every: Sequence[Operand], dim: int = 0) -> str:
    """Tensors side by side; torch leaves empty vectors out."""
    dtype, rank = result(call).dtype, len(result(call).shape)
    some = [g.name(a, dtype) for a in every if a.shape != (0,)]
    return g.node("Concat", *some, axis=dim % rank)


@operator_of("stack.default")
def stacked_node(g: Nodes, call: Call, every: Sequence[Operand], dim: int = 0) -> str:
    """Tensors along an axis of their own."""
    whole = result(call)
    axis = dim % len(whole.shape)
    shape = [*whole.shape[:axis], 1, *whole.shape[axis + 1 :]]
    some = [g.reshaped(g.name(a, whole.dtype), shape) for a in every]
    return g.node("Concat", *some, axis=axis)


@operator_of("constant_pad_nd.default")
def padded_node(g: Nodes, call: Call, a: Operand, pads: Sequence[int], value: float = 0) -> str:
    """A rim of one number."""
    pairs = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
    pairs = [*[(0, 0)] * (len(a.shape) - len(pairs)), *pairs[::-1]]
    ends = [p[0] for p in pairs] + [p[1] for p in pairs]
    return g.node("Pad", g.name(a), g.constant(ends), g.scalar(value, a.dtype))


# --- by index -----------------------------------------------------------------------------------


def one_index(index: Sequence[Operand | None]) -> tuple[int, Operand]:
    """The axis and the numbers of an index along one axis.

    Raises:
        UsageError: along several, or a mask.
    """
    given = [(axis, i) for axis, i in enumerate(index) if i is not None]
    if len(given) != 1 or given[0][1].dtype != torch.int64:
        raise UsageError("looks up by a mask, or along several axes at once")
    return given[0]


@operator_of("index.Tensor")
def indexed_node(g: Nodes, call: Call, a: Operand, index: Sequence[Operand | None]) -> str:
    """What lies at some places of an axis."""
    axis, places = one_index(index)
    return g.node("Gather", g.name(a), g.name(places), axis=axis)


@operator_of("embedding.default")
def rows_of_node(g: Nodes, call: Call, table: Operand, places: Operand, *_: Any) -> str:
    """Rows of a table."""
    return g.node("Gather", g.name(table), g.name(places), axis=0)


@operator_of("index_select.default")
def rows_selected_node(g: Nodes, call: Call, a: Operand, dim: int, places: Operand) -> str:
    """What lies at some places of an axis."""
    return g.node("Gather", g.name(a), g.name(places), axis=dim % len(a.shape))


@operator_of("index_put_.default", "index_put.default")
def put_node(
    g: Nodes, call: Call, a: Operand, index: Sequence[Operand | None], values: Operand, *_: Any
) -> str:
    """a with other numbers at some places of an axis."""
    axis, places = one_index(index)
    return scattered_along(g, a, axis, places, values)


@operator_of("index_copy.default")
def copied_node(
    g: Nodes, call: Call, a: Operand, dim: int, places: Operand, values: Operand
) -> str:
    """a with other numbers at some places of an axis."""
    return scattered_along(g, a, dim % len(a.shape), places, values)


@operator_of("index_add.default")
def added_along_node(
    g: Nodes, call: Call, a: Operand, dim: int, places: Operand, values: Operand
) -> str:
    """a and other numbers added at some places of an axis, as a product with a matrix of 0 and 1.

    Raises:
        UsageError: places that inputs decide, or along another axis than the last.
    """
    if not isinstance(places, Constant) or dim % len(a.shape) != len(a.shape) - 1:
        raise UsageError("adds at places of an axis that is not the last")
    where = F.one_hot(places.value, a.size(dim))
    moved = g.node("MatMul", g.name(values, a.dtype), g.constant(where, numpy_type(a.dtype)))
    return g.node("Add", g.name(a), moved)


def scattered_along(g: Nodes, a: Operand, axis: int, places: Operand, values: Operand) -> str:
    """a with values at places (m,) of an axis."""
    shape = [*a.shape[:axis], *places.shape, *a.shape[axis + 1 :]]
    rank = len(a.shape)
    whole = g.sizes(shape)
    at = g.reshaped(g.name(places), [*[1] * axis, -1, *[1] * (rank - axis - 1)])
    numbers = g.node("Expand", g.name(values, a.dtype), whole)
    return g.node("ScatterElements", g.name(a), g.node("Expand", at, whole), numbers, axis=axis)


@operator_of("gather.default")
def gathered_node(g: Nodes, call: Call, a: Operand, dim: int, index: Operand, **_: Any) -> str:
    """For each place the number that its index says."""
    return g.node("GatherElements", g.name(a), g.name(index), axis=dim % len(a.shape))


@operator_of("scatter.src", "scatter_.src")
def scattered_node(
    g: Nodes, call: Call, a: Operand, dim: int, index: Operand, values: Operand
) -> str:
    """a with each value where its index says."""
    names = g.name(a), g.name(index), g.name(values, a.dtype)
    return g.node("ScatterElements", *names, axis=dim % len(a.shape))


# --- along axes ---------------------------------------------------------------------------------


def reduce_node(kind: str) -> Operator:
    """One number of all along some axes."""

    def write(
        g: Nodes, call: Call, a: Operand, dims: Any = None, keepdim: bool = False, **_: Any
    ) -> str:
        dtype = torch.int32 if result(call).dtype == torch.bool else result(call).dtype
        axes = g.constant(axes_from_zero(call, dims, len(a.shape)))
        found = g.node(kind, g.name(a, dtype), axes, keepdims=int(keepdim))
        if result(call).dtype == torch.bool:
            return g.node("Cast", found, to=onnx_type(torch.bool))
        return found

    return write


OPERATORS |= {
    "sum.dim_IntList": reduce_node("ReduceSum"),
    "sum.default": reduce_node("ReduceSum"),
    "mean.dim": reduce_node("ReduceMean"),
    "amax.default": reduce_node("ReduceMax"),
    "amin.default": reduce_node("ReduceMin"),
    "any.dim": reduce_node("ReduceMax"),
    "all.dim": reduce_node("ReduceMin"),
    "logsumexp.default": reduce_node("ReduceLogSumExp"),
    "prod.dim_int": reduce_node("ReduceProd"),
}


@operator_of("max.dim", "min.dim")
def extreme_node(g: Nodes, call: Call, a: Operand, dim: int, keepdim: bool = False) -> list[str]:
    """The greatest or the least along an axis, and where it is."""
    kind, axis = ("Max" if "max" in call.name else "Min"), dim % len(a.shape)
    value = g.node(f"Reduce{kind}", g.name(a), g.constant([axis]), keepdims=int(keepdim))
    return [value, g.node(f"Arg{kind}", g.name(a), axis=axis, keepdims=int(keepdim))]


@operator_of("linalg_vector_norm.default")
def norm_node(
    g: Nodes, call: Call, a: Operand, order: float = 2, dims: Any = None, keepdim: bool = False,
    **_: Any,
) -> str:  # fmt: skip
    """The root of the sum of squares along some axes."""
    if order != 2:
        raise UsageError(f"takes norms of order {order}")
    name = g.name(a, result(call).dtype)
    axes = g.constant(axes_from_zero(call, dims, len(a.shape)))
    total = g.node("ReduceSum", g.node("Mul", name, name), axes, keepdims=int(keepdim))
    return g.node("Sqrt", total)


@operator_of("std.correction", "var.correction")
def spread_node(
    g: Nodes, call: Call, a: Operand, dims: Any = None, correction: float = 1,
    keepdim: bool = False,
) -> str:  # fmt: skip
    """The standard deviation along some axes, or its square, of n − correction."""
    name, some = g.name(a), axes_from_zero(call, dims, len(a.shape))
    n, axes = math.prod(a.size(d) for d in some), g.constant(some)
    off = g.node("Sub", name, g.node("ReduceMean", name, axes, keepdims=1))
    total = g.node("ReduceSum", g.node("Mul", off, off), axes, keepdims=int(keepdim))
    square = g.node("Div", total, g.scalar(n - correction, a.dtype))
    return g.node("Sqrt", square) if "std" in call.name else square


@operator_of("argmin.default", "argmax.default")
def place_of_extreme_node(
    g: Nodes, call: Call, a: Operand, dim: int | None = None, keepdim: bool = False
) -> str:
    """Where the least or the greatest is, the first of equals."""
    if dim is None:
        raise UsageError(f"calls torch's {call.name} without an axis")
    kind = "ArgMin" if "argmin" in call.name else "ArgMax"
    return g.node(kind, g.name(a), axis=dim % len(a.shape), keepdims=int(keepdim))


@operator_of("sort.default", "sort.stable")
def ordered_node(
    g: Nodes, call: Call, a: Operand, dim: int = -1, descending: bool = False, **_: Any
) -> list[str]:
    """The numbers in order, and where they were; equals in their order."""
    axis = dim % len(a.shape)
    names = [f"v{len(g.nodes)}_{part}" for part in ("values", "order")]
    many = g.constant([a.size(axis)])
    node = helper.make_node(
        "TopK", [g.name(a), many], names, axis=axis, largest=int(descending), sorted=1
    )
    g.nodes.append(node)
    return names


@operator_of("cumsum.default")
def running_sum_node(g: Nodes, call: Call, a: Operand, dim: int, **_: Any) -> str:
    """Sums up to each place."""
    axis = g.constant(dim % len(a.shape))
    return g.node("CumSum", g.name(a, result(call).dtype), axis)


@operator_of("cumprod.default")
def running_product_node(g: Nodes, call: Call, a: Operand, dim: int, **_: Any) -> str:
    """Products up to each place, of numbers ≥ 0: ONNX has sums only."""
    sums = g.node("CumSum", g.node("Log", g.name(a)), g.constant(dim % len(a.shape)))
    return g.node("Exp", sums)


@operator_of("_softmax.default", "_log_softmax.default")
def softmax_node(g: Nodes, call: Call, a: Operand, dim: int, _: bool) -> str:
    """Weights that add up to 1, or their logarithms."""
    kind = "LogSoftmax" if "log" in call.name else "Softmax"
    return g.node(kind, g.name(a), axis=dim % len(a.shape))


# --- layers -------------------------------------------------------------------------------------


@operator_of("mm.default", "bmm.default", "matmul.default")
def product_node(g: Nodes, call: Call, a: Operand, b: Operand) -> str:
    """A product of matrices."""
    return g.node("MatMul", g.name(a), g.name(b))


@operator_of("mv.default")
def matrix_times_vector_node(g: Nodes, call: Call, a: Operand, v: Operand) -> str:
    """A product of a matrix and a vector."""
    column = g.node("MatMul", g.name(a), g.reshaped(g.name(v), [v.size(0), 1]))
    return g.reshaped(column, result(call).shape)


@operator_of("baddbmm.default")
def products_added_node(g: Nodes, call: Call, bias: Operand, a: Operand, b: Operand) -> str:
    """bias + a b, of batches of matrices."""
    return g.node("Add", g.name(bias), g.node("MatMul", g.name(a), g.name(b)))


@operator_of("addmm.default")
def affine_node(
    g: Nodes, call: Call, bias: Operand, a: Operand, b: Operand, **scales: float
) -> str:
    """bias + a b."""
    if scales:
        raise UsageError(f"calls torch's {call.name} with scales")
    return g.node("Gemm", g.name(a), g.name(b), g.name(bias))


@operator_of("convolution.default")
def convolved_node(
    g: Nodes, call: Call, a: Operand, w: Operand, bias: Operand | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> str:  # fmt: skip
    """A convolution, or its transpose."""
    inputs = [g.name(v) for v in (a, w, bias) if v is not None]
    more = {"output_padding": list(output_padding)} if transposed else {}
    return g.node(
        "ConvTranspose" if transposed else "Conv", *inputs, strides=list(stride),
        pads=[*padding, *padding], dilations=list(dilation), group=groups, **more,
    )  # fmt: skip


@operator_of("native_layer_norm.default")
def normalised_node(
    g: Nodes, call: Call, a: Operand, shape: Sequence[int], w: Operand, bias: Operand, eps: float
) -> str:
    """Numbers of mean 0 and width 1 along the last axes, scaled and shifted."""
    names = g.name(a), g.name(w), g.name(bias)
    return g.node("LayerNormalization", *names, axis=-len(shape), epsilon=eps)


@operator_of(
    "_scaled_dot_product_flash_attention_for_cpu.default",
    "_scaled_dot_product_attention_math.default",
)
def attention(
    g: Nodes,
    call: Call,
    q: Operand,
    k: Operand,
    v: Operand,
    *rest: Any,
    scale: float | None = None,
) -> str:
    """softmax(q kᵀ · scale) v."""
    scale = scale or 1 / math.sqrt(q.size(-1))
    swapped = [*range(len(k.shape) - 2), len(k.shape) - 1, len(k.shape) - 2]
    odds = g.node("MatMul", g.name(q), g.node("Transpose", g.name(k), perm=swapped))
    weights = g.node("Softmax", g.node("Mul", odds, g.scalar(scale, q.dtype)), axis=-1)
    return g.node("MatMul", weights, g.name(v))


@operator_of("_cdist_forward.default")
def distances_node(g: Nodes, call: Call, a: Operand, b: Operand, *_: Any) -> str:
    """Distances of all rows of a (n, D) from all rows of b (m, D), (n, m)."""
    first = g.reshaped(g.name(a), [a.shape[0], 1, a.shape[1]])
    pairs = first, g.reshaped(g.name(b), [1, *b.shape])
    difference = g.node("Sub", *pairs)
    square = g.node("Mul", difference, difference)
    return g.node("Sqrt", g.node("ReduceSum", square, g.constant([2]), keepdims=0))
