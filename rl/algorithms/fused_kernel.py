"""Narrow tanh networks and PPO's gradient, compiled: a tile of rows goes through a network while it is in the cache.

The products of a small network are too narrow for a BLAS, which loses most of its time to packing and to passes over
memory. Here all three kinds are one micro-kernel, `_block`, that holds a few rows of C in vector registers:

    forward     H_l = tanh(b_l + H_{l−1} W_lᵀ)          A = H_{l−1}    B = W_lᵀ       C = H_l
    backward    Δ_{l−1} = (Δ_l W_l) ∘ (1 − H²_{l−1})    A = Δ_l        B = W_l        C = Δ_{l−1}
    weights     ∂L/∂W_l += Δ_lᵀ H_{l−1}                 A = Δ_lᵀ       B = H_{l−1}    C = ∂L/∂W_l

Widths are padded with zeros to whole vectors, so that no column needs code of its own; weights are copied into that
form once a minibatch. Each number of C is summed in one order whatever the size of the vectors.

Everything that is compiled together stands in this file, and nothing compiled is imported: numba renews its cache on
disk when this file changes, but not when an imported one does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

FAST = {"contract", "arcp", "nsz"}  # fused multiply-add, and what cannot change NaN or infinity
# tanh(x) of Eigen's `ptanh`: within ±7.9 an odd polynomial over an even one, in x², the highest power first; beyond it
# is ±1 in single precision
TANH_END = 7.90531110763549805
TANH_ODD = (
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
    1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
)  # fmt: skip
TANH_EVEN = 1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03
TILE = 32  # rows that go through a network together
PAD = 16  # widths are multiples of this
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8  # numbers in a vector register
# Columns of a plan [L + 1, 6], whose row l is of the numbers that enter layer l, and the last row of the outputs: how
# many there are; that, padded; where the layer's weights and its biases begin among the parameters; where its weights
# begin in padded form; where these numbers of a tile begin among the activations.
SIZE, WIDTH, WEIGHT, BIAS, PADDED, ACTIVATION = 0, 1, 2, 3, 4, 5


class Network(NamedTuple):
    """The memory of one network; all is flat but plan and biases. Padding is zero, and nothing writes into it."""

    plan: Int  # [L + 1, 6]
    biases: Float  # [L + 1, widest]; the last row is zero
    copied: Float  # the parameters that biases and weights were copied from; NaN at first
    transposed: Float  # of each layer W_lᵀ [inputs, padded outputs]
    weights: Float  # of each layer W_l [outputs, padded inputs]
    activations: Float  # of each row of the plan [TILE, padded size]
    deltas: Float  # ∂L/∂activations before the tanh, in the same places
    weight_grads: Float  # in the places of the weights
    bias_grads: Float  # [L + 1, widest]
    one: Float  # [1], the number 1


class Samples(NamedTuple):
    """The N samples that minibatches are drawn from."""

    obs: Float  # [N, O]
    critic_obs: Float  # [N, S]
    actions: Int  # [N]
    logp_old: Float  # [N]
    advantage: Float  # [N]
    target: Float  # [N] of the critic's output
    forbidden: Bool  # [N, U], or empty where no action is forbidden
    acting: Bool  # [N] false for an agent that had left, or empty where nobody had


class Loss(NamedTuple):
    """The constants of PPO's loss."""

    clip: float  # ε of the clipped surrogate
    value_coef: float
    huber: float  # the error from which on the value loss is linear
    forbidden_logit: float


def network_memory(sizes: list[int], first: int) -> Network:
    """Return the memory of a network of these sizes, whose parameters begin at `first` and follow each other."""
    plan = np.zeros((len(sizes), 6), np.int64)
    parameter, padded, activation = first, 0, 0
    for layer, size in enumerate(sizes):
        width = _padded(size)
        plan[layer, [SIZE, WIDTH, ACTIVATION]] = size, width, activation
        activation += TILE * width
        if layer + 1 < len(sizes):
            n_out = sizes[layer + 1]
            plan[layer, [WEIGHT, BIAS, PADDED]] = parameter, parameter + n_out * size, padded
            parameter += n_out * (size + 1)
            padded += width * _padded(n_out)

    def zeros(*shape: int) -> Float:
        return np.zeros(shape, np.float32)

    by_layer = len(sizes), int(plan[:, WIDTH].max())
    return Network(
        plan=plan,
        biases=zeros(*by_layer),
        copied=np.full(parameter - first, np.nan, np.float32),
        transposed=zeros(padded),
        weights=zeros(padded),
        activations=zeros(activation),
        deltas=zeros(activation),
        weight_grads=zeros(padded),
        bias_grads=zeros(*by_layer),
        one=np.ones(1, np.float32),
    )


def _padded(size: int) -> int:
    return -(-size // PAD) * PAD


# ---------------------------------------------------------------- vectors, as code of LLVM


class _Vectors:
    """Arithmetic on vectors of LANES numbers, which numba's loops would do with half of a register, or through memory.

    Comparisons are false of NaN, and then it is kept.
    """

    def __init__(self, builder: Any) -> None:
        self.builder, self.number = builder, ir.FloatType()
        self.vector, self.integers = ir.VectorType(self.number, LANES), ir.VectorType(ir.IntType(32), LANES)

    def __call__(self, x: float) -> Any:
        """Return a number in every lane."""
        return self.vector([float(np.float32(x))] * LANES)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of LLVM that works lane by lane."""
        of_type = ir.FunctionType(self.vector, [self.vector] * len(arguments))
        name = f"llvm.{name}.v{LANES}f32"
        function = cgutils.get_or_insert_function(self.builder.module, of_type, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, arguments)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a · b + c, rounded once."""
        return self.call("fma", a, b, c)

    def polynomial(self, x: Any, coefficients: tuple[float, ...]) -> Any:
        """Return the polynomial of x with these coefficients, the highest power's first."""
        total = self(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.fma(total, x, self(coefficient))
        return total

    def bounded(self, x: Any, low: float, high: float) -> Any:
        builder = self.builder
        x = builder.select(builder.fcmp_ordered(">", x, self(high)), self(high), x)
        return builder.select(builder.fcmp_ordered("<", x, self(low)), self(low), x)

    def everywhere(self, x: Any) -> Any:
        """Return a number that is known at run time in every lane."""
        single = self.builder.insert_element(self.vector(ir.Undefined), x, ir.IntType(32)(0))
        return self.builder.shuffle_vector(single, self.vector(ir.Undefined), self.integers(None))

    def at(self, base: Any, index: Any) -> Any:
        """Return the address of the vector that begins at a number of an array."""
        return self.builder.bitcast(self.builder.gep(base, [index]), self.vector.as_pointer())

    def array(self, address: Any) -> Any:
        return self.builder.inttoptr(address, self.number.as_pointer())

    def load(self, at: Any) -> Any:
        return self.builder.load(at, align=4)

    def store(self, x: Any, at: Any) -> None:
        self.builder.store(x, at, align=4)

    def tanh(self, several: list[Any]) -> list[Any]:
        """Return tanh of each, within 5e-7, by the rational function of Eigen's `ptanh`."""
        builder = self.builder
        several = [self.bounded(x, -TANH_END, TANH_END) for x in several]
        squares = [builder.fmul(x, x) for x in several]
        over = [builder.fmul(x, self.polynomial(y, TANH_ODD)) for x, y in zip(several, squares, strict=True)]
        inverses = self.inverses([self.polynomial(y, TANH_EVEN) for y in squares])
        return [builder.fmul(x, y) for x, y in zip(over, inverses, strict=True)]

    def inverses(self, several: list[Any]) -> list[Any]:
        """Return 1 / x of each by one division: of two, 1 / a = b / (a b); it takes as long as ten multiplications."""
        builder = self.builder
        if len(several) == 1:
            return [builder.fdiv(self(1.0), several[0])]
        pairs = list(zip(several[::2], several[1::2], strict=True))
        of_pairs = self.inverses([builder.fmul(a, b) for a, b in pairs])
        return [builder.fmul(x, y) for (a, b), x in zip(pairs, of_pairs, strict=True) for y in (b, a)]

    def exp(self, x: Any) -> Any:
        """Return e^x, within 2e-7 of it, for x up to 88; 0 below -87."""
        # e^x = 2^n e^r, with n a whole number and |r| ≤ ½ ln 2, whose polynomial is that of Cephes' `expf`
        builder = self.builder
        n = self.call("rint", builder.fmul(x, self(1.44269504088896341)))
        r = self.fma(n, self(-0.693359375), x)
        r = self.fma(n, self(2.12194440e-4), r)
        tail = self.polynomial(
            r, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
        )
        power = self.fma(tail, builder.fmul(r, r), builder.fadd(r, self(1.0)))
        # 2^n by its bits; n is bounded, for a float beyond the integers has none
        whole = builder.fptosi(self.bounded(n, -126.0, 127.0), self.integers)
        bits = builder.shl(builder.add(whole, self.integers([127] * LANES)), self.integers([23] * LANES))
        result = builder.fmul(power, builder.bitcast(bits, self.vector))
        return builder.select(builder.fcmp_ordered("<", x, self(-87.0)), self(0.0), result)


NOTHING, TANH, SLOPE = 0, 1, 2  # what a block does with its sums at the end


def _make_block(height: int, columns: int) -> Any:
    """Return C = init + A B for so many rows and columns of C, which stay in registers until they are finished.

    It takes addresses, and strides in numbers: of A and its rows and columns, of B and its rows, of init and its rows
    (0: the same for all), of C and its rows; the depth, columns of A and rows of B; what to do with the sums: TANH, or
    SLOPE for their product with 1 − H²; and the address of H, whose rows are as far apart as C's.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        vectors, index = _Vectors(builder), ir.IntType(64)
        a, a_row, a_column, b, b_row, init, init_row, c, c_row, depth, finish, h = arguments
        a, b, init, c, h = (vectors.array(x) for x in (a, b, init, c, h))
        rows, starts = [index(i) for i in range(height)], [index(i) for i in range(0, columns, LANES)]

        def row_at(base: Any, row: Any, stride: Any) -> list[Any]:
            return [vectors.at(base, builder.add(builder.mul(row, stride), start)) for start in starts]

        # the sums stand in memory here, and in registers once LLVM has gone over it
        sums = [[cgutils.alloca_once(builder, vectors.vector) for _ in starts] for _ in rows]  # type: ignore[no-untyped-call]
        for row, of_row in zip(rows, sums, strict=True):
            for at, total in zip(row_at(init, row, init_row), of_row, strict=True):
                builder.store(vectors.load(at), total)
        with cgutils.for_range(builder, depth) as loop:
            of_b = [vectors.load(at) for at in row_at(b, loop.index, b_row)]
            for row, of_row in zip(rows, sums, strict=True):
                at = builder.add(builder.mul(row, a_row), builder.mul(loop.index, a_column))
                of_a = vectors.everywhere(builder.load(builder.gep(a, [at])))
                for x, total in zip(of_b, of_row, strict=True):
                    builder.store(vectors.fma(of_a, x, builder.load(total)), total)
        with builder.if_then(builder.icmp_signed("==", finish, index(TANH))):
            for of_row in sums:
                for x, total in zip(vectors.tanh([builder.load(total) for total in of_row]), of_row, strict=True):
                    builder.store(x, total)
        with builder.if_then(builder.icmp_signed("==", finish, index(SLOPE))):
            for row, of_row in zip(rows, sums, strict=True):
                for at, total in zip(row_at(h, row, c_row), of_row, strict=True):
                    of_h = vectors.load(at)
                    slope = builder.fsub(vectors(1.0), builder.fmul(of_h, of_h))
                    builder.store(builder.fmul(builder.load(total), slope), total)
        for row, of_row in zip(rows, sums, strict=True):
            for total, at in zip(of_row, row_at(c, row, c_row), strict=True):
                vectors.store(builder.load(total), at)
        return context.get_dummy_value()

    @intrinsic
    def block(typing_context, a, a_row, a_column, b, b_row, init, init_row, c, c_row, depth, finish, h):  # type: ignore[no-untyped-def] # noqa: ARG001
        return types.void(*[types.intp] * 12), generate

    return block


@intrinsic
def _exp(typing_context, address):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Replace the LANES numbers at an address by their exponentials."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        vectors = _Vectors(builder)
        at = vectors.at(vectors.array(arguments[0]), ir.IntType(64)(0))
        vectors.store(vectors.exp(vectors.load(at)), at)
        return context.get_dummy_value()

    return types.void(types.intp), generate


@njit(nogil=True, cache=True)
def exp_in_place(x: Float) -> None:
    """Replace x [n], n a multiple of PAD, by its exponentials."""
    for i in range(0, x.size, LANES):
        _exp(x.ctypes.data + 4 * i)  # type: ignore[call-arg]


# ---------------------------------------------------------------- products

# Rows and columns of a block. With AVX-512 its sums take 16 of the 32 registers, or 8: enough to hide that an addition
# takes four cycles. AVX2 has 16 registers in all.
_WIDE, _HALF = (4 * PAD, 2 * PAD) if LANES == PAD else (PAD, PAD)
_WIDE_ROWS, _ROWS = 4, 8 if LANES == PAD else 4
_wide_block, _half_block, _block = (
    _make_block(*sizes) for sizes in ((_WIDE_ROWS, _WIDE), (_ROWS, _HALF), (_ROWS, PAD))
)


@njit(nogil=True, cache=True)
def product(
    a: int, a_row: int, a_column: int, b: int, b_row: int, init: int, init_row: int, c: int, c_row: int,
    rows: int, columns: int, depth: int, finish: int, h: int,
) -> None:  # fmt: skip
    """C = init + A B by addresses and strides, see `_make_block`.

    The columns are a multiple of PAD; up to seven rows behind the last one are written too, with numbers of no use.
    """
    column = 0
    while column < columns:
        left = columns - column
        width = _WIDE if left >= _WIDE else _HALF if left >= _HALF else PAD
        for row in range(0, rows, _WIDE_ROWS if width == _WIDE else _ROWS):
            # four bytes a number
            x, y, z = a + 4 * row * a_row, b + 4 * column, init + 4 * (row * init_row + column)
            to, at_h = c + 4 * (row * c_row + column), h + 4 * (row * c_row + column)
            if width == _WIDE:
                _wide_block(x, a_row, a_column, y, b_row, z, init_row, to, c_row, depth, finish, at_h)
            elif width == _HALF:
                _half_block(x, a_row, a_column, y, b_row, z, init_row, to, c_row, depth, finish, at_h)
            else:
                _block(x, a_row, a_column, y, b_row, z, init_row, to, c_row, depth, finish, at_h)
        column += width


# ---------------------------------------------------------------- a network


@njit(nogil=True, cache=True)
def equal(x: Float, y: Float) -> bool:
    """Return whether two arrays [n] are equal in every number; without an early end, so that it takes vectors."""
    differences = 0
    for i in range(x.size):
        differences += x[i] != y[i]
    return differences == 0


@njit(nogil=True, cache=True)
def pad_parameters(network: Network, parameters: Float) -> None:
    """Copy the flat parameters into the network's padded biases and weights, where they have changed."""
    plan, copied = network.plan, network.copied
    if equal(copied, parameters[plan[0, WEIGHT] : plan[0, WEIGHT] + copied.size]):
        return
    copied[:] = parameters[plan[0, WEIGHT] : plan[0, WEIGHT] + copied.size]
    for layer in range(len(plan) - 1):
        n_in, n_out = plan[layer, SIZE], plan[layer + 1, SIZE]
        width, out_width, start = plan[layer, WIDTH], plan[layer + 1, WIDTH], plan[layer, PADDED]
        weight, bias = plan[layer, WEIGHT], plan[layer, BIAS]
        network.biases[layer, :n_out] = parameters[bias : bias + n_out]
        copy_rows(parameters[weight:], n_in, network.weights[start:], width, n_out, n_in)
        for i in range(n_in):
            for j in range(n_out):
                network.transposed[start + i * out_width + j] = parameters[weight + j * n_in + i]


@njit(nogil=True, cache=True)
def unpad_gradient(network: Network, gradient: Float) -> None:
    """Copy the gradients of padded weights and biases into the flat gradient."""
    plan = network.plan
    for layer in range(len(plan) - 1):
        n_in, n_out, start = plan[layer, SIZE], plan[layer + 1, SIZE], plan[layer, PADDED]
        weight, bias = plan[layer, WEIGHT], plan[layer, BIAS]
        gradient[bias : bias + n_out] = network.bias_grads[layer, :n_out]
        copy_rows(network.weight_grads[start:], plan[layer, WIDTH], gradient[weight:], n_in, n_out, n_in)


@njit(nogil=True, cache=True)
def copy_rows(x: Float, x_row: int, y: Float, y_row: int, rows: int, columns: int) -> None:
    """Copy rows of flat x into flat y, which begin every x_row and y_row numbers."""
    for row in range(rows):
        at, to = row * x_row, row * y_row
        for i in range(columns):
            y[to + i] = x[at + i]


@njit(nogil=True, cache=True)
def gather(network: Network, x: Float, chosen: Int) -> None:
    """Copy the rows `chosen` of x [N, inputs] into the tile's inputs."""
    width, n_in, inputs = network.plan[0, WIDTH], x.shape[1], network.activations
    for row in range(len(chosen)):
        k, to = chosen[row], row * width
        for i in range(n_in):
            inputs[to + i] = x[k, i]


@njit(nogil=True, cache=True)
def outputs_of(network: Network, values: Float) -> Float:
    """Return the outputs, or of `deltas` their places, of a tile as a window [TILE, padded outputs]."""
    width, start = network.plan[-1, WIDTH], network.plan[-1, ACTIVATION]
    return values[start : start + TILE * width].reshape(TILE, width)


@njit(nogil=True, cache=True)
def forward_tile(network: Network, rows: int) -> None:
    """Take the inputs of a tile of so many rows through all layers."""
    plan, h = network.plan, network.activations
    for layer in range(len(plan) - 1):
        width, out_width, start = plan[layer, WIDTH], plan[layer + 1, WIDTH], plan[layer, PADDED]
        at, out_at = plan[layer, ACTIVATION], plan[layer + 1, ACTIVATION]
        product(
            h.ctypes.data + 4 * at, width, 1,
            network.transposed.ctypes.data + 4 * start, out_width,
            network.biases.ctypes.data + 4 * layer * network.biases.shape[1], 0,
            h.ctypes.data + 4 * out_at, out_width,
            rows, out_width, plan[layer, SIZE],
            TANH if layer + 2 < len(plan) else NOTHING, 0,
        )  # fmt: skip


@njit(nogil=True, cache=True)
def backward_tile(network: Network, rows: int) -> None:
    """Add ∂L/∂θ of a tile of so many rows to the gradients, where ∂L/∂outputs stands in the deltas."""
    plan, h, deltas, grads = network.plan, network.activations, network.deltas, network.weight_grads
    for layer in range(len(plan) - 2, -1, -1):
        width, out_width, start = plan[layer, WIDTH], plan[layer + 1, WIDTH], plan[layer, PADDED]
        at, out_at, n_out = plan[layer, ACTIVATION], plan[layer + 1, ACTIVATION], plan[layer + 1, SIZE]
        # ∂L/∂W = δᵀ h and ∂L/∂b = Σ δ
        product(
            deltas.ctypes.data + 4 * out_at, 1, out_width,
            h.ctypes.data + 4 * at, width,
            grads.ctypes.data + 4 * start, width,
            grads.ctypes.data + 4 * start, width,
            n_out, width, rows, NOTHING, 0,
        )  # fmt: skip
        sums = network.bias_grads.ctypes.data + 4 * layer * network.bias_grads.shape[1]
        product(
            network.one.ctypes.data, 0, 0,
            deltas.ctypes.data + 4 * out_at, out_width,
            sums, 0,
            sums, 0,  # one row, over and over
            1, out_width, rows, NOTHING, 0,
        )  # fmt: skip
        # δ of the layer below
        if layer:
            product(
                deltas.ctypes.data + 4 * out_at, out_width, 1,
                network.weights.ctypes.data + 4 * start, width,
                network.biases[-1].ctypes.data, 0,
                deltas.ctypes.data + 4 * at, width,
                rows, width, n_out, SLOPE, h.ctypes.data + 4 * at,
            )  # fmt: skip


@njit(nogil=True, cache=True)
def forward(network: Network, parameters: Float, x: Float, outputs: Float) -> None:
    """Take x [N, inputs] through the network with these flat parameters, into outputs [N, outputs]."""
    pad_parameters(network, parameters)
    results, rows, n_out = outputs_of(network, network.activations), np.arange(len(x)), outputs.shape[1]
    for first in range(0, len(x), TILE):
        tile = rows[first : first + TILE]
        gather(network, x, tile)
        forward_tile(network, len(tile))
        for row in range(len(tile)):
            for j in range(n_out):
                outputs[first + row, j] = results[row, j]


# ---------------------------------------------------------------- PPO


@njit(nogil=True, cache=True, error_model="numpy")
def advantage_scale(samples: Samples, chosen: Int) -> tuple[int, float, float]:
    """Return how many of the chosen samples act, and mean and inverse deviation of their advantages.

    Those of `losses.normalised`: of a single sample there is no deviation, and of none no mean.
    """
    has_left = samples.acting.size > 0
    n, total, squares = 0, 0.0, 0.0
    for k in chosen:
        if not has_left or samples.acting[k]:
            n += 1
            total += samples.advantage[k]
    mean = total / max(n, 1)
    for k in chosen:
        if not has_left or samples.acting[k]:
            squares += (samples.advantage[k] - mean) ** 2
    return n, mean, 1 / (np.sqrt(squares / (n - 1)) + 1e-8) if n > 1 else 1.0


# Rows of the scratch of `policy_head`, [OF_ACTIONS + 2 U, TILE]: numbers of each sample; below them log p and p.
OF_ACTIONS = 6


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def policy_head(
    logits: Float, slopes: Float, scratch: Float, samples: Samples, chosen: Int, loss: Loss, entropy_coef: float,
    n_acting: int, mean: float, scale: float,
) -> tuple[float, float]:  # fmt: skip
    """Return the sums of policy loss and entropy of a tile, and write ∂L/∂logits, [rows, U], into `slopes`.

    The samples stand side by side in the scratch, so that loops over them are loops over vectors. An agent that has
    left pulls on no policy: its advantage counts as zero, and the one action that is allowed to it has no entropy.
    """
    n, n_actions = len(chosen), (len(scratch) - OF_ACTIONS) // 2
    log_p, p = scratch[OF_ACTIONS : OF_ACTIONS + n_actions], scratch[OF_ACTIONS + n_actions :]
    top, total, h, logp, ratio, pull = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    for i in range(n):
        for u in range(n_actions):
            log_p[u, i] = logits[i, u]
    if samples.forbidden.size:
        for i in range(n):
            for u in range(n_actions):
                if samples.forbidden[chosen[i], u]:
                    log_p[u, i] = loss.forbidden_logit
    # softmax
    for i in range(n):
        top[i], total[i], h[i] = log_p[0, i], np.float32(0.0), np.float32(0.0)
    for u in range(1, n_actions):
        for i in range(n):
            top[i] = max(top[i], log_p[u, i])
    for u in range(n_actions):
        for i in range(n):
            log_p[u, i] -= top[i]
            p[u, i] = log_p[u, i]
        exp_in_place(p[u])
        for i in range(n):
            total[i] += p[u, i]
    for i in range(n):
        logp[i] = np.log(total[i])
        total[i] = np.float32(1.0) / total[i]
    for u in range(n_actions):
        for i in range(n):
            p[u, i] *= total[i]
            log_p[u, i] -= logp[i]
            h[i] -= p[u, i] * log_p[u, i]
    # the clipped surrogate
    for i in range(n):
        k = chosen[i]
        ratio[i] = log_p[samples.actions[k], i] - samples.logp_old[k]
        pull[i] = (samples.advantage[k] - mean) * scale
        if samples.acting.size and not samples.acting[k]:
            pull[i] = np.float32(0.0)
    exp_in_place(ratio)
    low, high = np.float32(1 - loss.clip), np.float32(1 + loss.clip)
    share, weight = np.float32(1 / n_acting), np.float32(entropy_coef / n_acting)
    policy, entropy = 0.0, 0.0
    for i in range(n):
        unclipped = ratio[i] * pull[i]
        clipped = min(max(ratio[i], low), high) * pull[i]
        policy -= min(unclipped, clipped)
        entropy += h[i]
        pull[i] = share * unclipped if unclipped <= clipped else np.float32(0.0)
    # ∂L/∂logits
    for u in range(n_actions):
        for i in range(n):
            log_p[u, i] = p[u, i] * (weight * (log_p[u, i] + h[i]) + pull[i])
    for i in range(n):
        for u in range(n_actions):
            slopes[i, u] = log_p[u, i]
        slopes[i, samples.actions[chosen[i]]] -= pull[i]
    return policy, entropy


@njit(nogil=True, cache=True, error_model="numpy")
def value_head(values: Float, slopes: Float, samples: Samples, chosen: Int, loss: Loss, n: int) -> float:
    """Return the sum of Huber's loss of a tile, and write ∂L/∂values of a mean over n into `slopes`; [rows, 1] each."""
    total = 0.0
    for i in range(len(chosen)):
        error = values[i, 0] - samples.target[chosen[i]]
        bounded = min(max(error, -loss.huber), loss.huber)
        total += bounded * (error - 0.5 * bounded)
        slopes[i, 0] = loss.value_coef * bounded / n
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def ppo_gradient(
    actor: Network,
    critic: Network,
    parameters: Float,
    gradient: Float,
    samples: Samples,
    chosen: Int,
    loss: Loss,
    entropy_coef: float,
    normalise: bool,
) -> tuple[float, float, float]:
    """Overwrite the flat gradient by ∂L/∂θ of the chosen samples.

    Args:
        actor: its outputs are logits.
        critic: its one output is the value.
        parameters: of both, flat.
        gradient: of both, flat.
        samples: N of them.
        chosen: [n], those of the minibatch.
        loss: its constants.
        entropy_coef: c_e.
        normalise: advantages are given zero mean and unit deviation.

    Returns:
        The losses of policy and value, and the entropy in nats, means over those that act, all, and those that act.
    """
    for network in (actor, critic):
        pad_parameters(network, parameters)
        network.weight_grads[:] = 0
        network.bias_grads[:] = 0
    n_acting, mean, scale = advantage_scale(samples, chosen)
    if not normalise or not n_acting:
        mean, scale = 0.0, 1.0
    n_acting = max(n_acting, 1)
    n, n_actions = len(chosen), actor.plan[-1, SIZE]
    logits, logit_slopes = outputs_of(actor, actor.activations), outputs_of(actor, actor.deltas)
    values, value_slopes = outputs_of(critic, critic.activations), outputs_of(critic, critic.deltas)
    scratch = np.zeros((OF_ACTIONS + 2 * n_actions, TILE), np.float32)
    # an independent critic sees what its actor sees
    same_inputs, n_inputs = samples.obs.ctypes.data == samples.critic_obs.ctypes.data, TILE * actor.plan[0, WIDTH]
    policy, value, entropy = 0.0, 0.0, 0.0
    for first in range(0, n, TILE):
        tile = chosen[first : first + TILE]
        # the actor
        gather(actor, samples.obs, tile)
        forward_tile(actor, len(tile))
        of_policy, of_entropy = policy_head(
            logits, logit_slopes, scratch, samples, tile, loss, entropy_coef, n_acting, mean, scale
        )
        backward_tile(actor, len(tile))
        policy, entropy = policy + of_policy, entropy + of_entropy
        # the critic
        if same_inputs:
            critic.activations[:n_inputs] = actor.activations[:n_inputs]
        else:
            gather(critic, samples.critic_obs, tile)
        forward_tile(critic, len(tile))
        value += value_head(values, value_slopes, samples, tile, loss, n)
        backward_tile(critic, len(tile))
    unpad_gradient(actor, gradient)
    unpad_gradient(critic, gradient)
    return policy / n_acting, value / n, entropy / n_acting
