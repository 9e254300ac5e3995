"""Products with a matrix whose rows are spread over devices: each device works on its own rows, only results travel.

The stored numbers may be float32 or float64. All products and sums are float64 (float32 rows are converted block by
block, exactly), at full precision: never TF32. What comes back is NumPy, and the same to the last bit on every process:
devices hand over their own parts, which are added up in the order of the devices and not by the network. With several
processes every product is a collective, so all of them must make the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from .newton import PRECISION
from .padding import bucket

Device: TypeAlias = Any  # jax.Device, which type checkers take for a variable

AXIS = "rows"
BLOCK = 1 << 24  # numbers that are converted to float64 at a time


class ShardedRows:
    """A matrix (S, N) whose consecutive parts lie on devices.

    Parameters
    ----------
    devices
        Where the parts go, in the order of the rows; with several processes, those of all processes, and the same list
        in each.
    counts
        Rows of each device (D,); they may differ, and all but the largest are padded.
    width
        Number N of columns.
    dtype
        float64 or float32.
    part
        ``part(d)`` returns the rows of device d (counts[d], N). It is called once for each device of this process.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        counts: Sequence[int],
        width: int,
        dtype: Any,
        part: Callable[[int], np.ndarray],
    ) -> None:
        self.devices = tuple(devices)
        self.shape = (int(sum(counts)), width)
        self.dtype = np.dtype(dtype)
        self._starts = np.cumsum([0, *counts])
        longest = max(*counts, 1)
        # float64 rows need no conversion, hence no blocks
        self._blocks = 1 if self.dtype == np.float64 else -(-longest * width // BLOCK)
        self._length = -(-longest // self._blocks)
        self._mesh = Mesh(np.array(self.devices), (AXIS,))
        self._products = _products(self._mesh)

        def padded(d: int) -> np.ndarray:
            rows = np.asarray(part(d), dtype=self.dtype)
            total = self._blocks * self._length
            whole = rows if len(rows) == total else np.pad(rows, ((0, total - len(rows)), (0, 0)))
            return whole.reshape(self._blocks, self._length, width)

        self._rows = self._placed((self._length, width), padded)

    def losses(self, weights: np.ndarray) -> np.ndarray:
        """``-R w`` (S,) for weights (N,)."""
        with jax.enable_x64(True):
            return self._unpadded(self._products.losses(self._rows, np.asarray(weights, np.float64)))

    def pull(self, measure: np.ndarray) -> np.ndarray:
        """``measure @ R`` (K, N) for measures (K, S)."""
        count, total = len(measure), self._blocks * self._length

        def padded(d: int) -> np.ndarray:
            part = np.zeros((count, total))
            here = measure[:, self._starts[d] : self._starts[d + 1]]
            part[:, : here.shape[1]] = here
            return part.reshape(count, self._blocks, self._length).transpose(1, 0, 2)

        placed = self._placed((count, self._length), padded)
        with jax.enable_x64(True):
            return np.asarray(self._products.pull(self._rows, placed)).sum(axis=0)

    def take(self, index: np.ndarray) -> np.ndarray:
        """The rows at the positions `index` (K,), as stored (K, N)."""
        index = np.asarray(index, dtype=np.int64)
        device = np.searchsorted(self._starts, index, side="right") - 1
        place = device * self._blocks * self._length + index - self._starts[device]
        place = np.pad(place, (0, bucket(len(index)) - len(index)))  # few sizes, because each is compiled
        with jax.enable_x64(True):
            return np.asarray(self._products.take(self._rows, place))[: len(index)]

    def sizes(self) -> tuple[np.ndarray, float]:
        """Largest absolute number of each column (N,), and the sum of all squares."""
        with jax.enable_x64(True):
            largest, squares = self._products.sizes(self._rows)
            return np.asarray(largest).max(axis=0), float(np.asarray(squares).sum())

    @property
    def addressable(self) -> bool:
        """Whether all rows lie on devices of this process."""
        return self._rows.is_fully_addressable

    def _placed(self, block: tuple[int, int], part: Callable[[int], np.ndarray]) -> jax.Array:
        """Blocks on their devices; ``part(d)`` returns those of device d."""

        def at(index: Any) -> np.ndarray:
            return part((index[0].start or 0) // self._blocks)

        shape = (len(self.devices) * self._blocks, *block)
        with jax.enable_x64(True):
            return jax.make_array_from_callback(shape, NamedSharding(self._mesh, PartitionSpec(AXIS)), at)

    def _unpadded(self, padded: jax.Array) -> np.ndarray:
        whole = np.asarray(padded).reshape(len(self.devices), -1)
        return np.concatenate([part[:count] for part, count in zip(whole, np.diff(self._starts), strict=True)])


def devices_of(mesh: Mesh | None) -> list[Device]:
    """Devices of a mesh, whatever its axes, or all of the default backend, ordered by process and number."""
    devices = jax.devices() if mesh is None else list(mesh.devices.flat)
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def exchanged(values: np.ndarray) -> np.ndarray:
    """What every process has handed over (P, ...), in the order of the processes; shapes must agree."""
    if jax.process_count() == 1:
        return values[None]
    with jax.enable_x64(True):
        return np.asarray(multihost_utils.process_allgather(values))


class _Products(NamedTuple):
    losses: Callable[..., jax.Array]
    pull: Callable[..., jax.Array]
    take: Callable[..., jax.Array]
    sizes: Callable[..., tuple[jax.Array, jax.Array]]


@lru_cache
def _products(mesh: Mesh) -> _Products:
    """The products below on a mesh, with results that every device has."""
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)

    def on_mesh(product: Callable[..., Any], other: tuple[PartitionSpec, ...], gives: Any) -> Callable[..., Any]:
        local = jax.shard_map(product, mesh=mesh, in_specs=(split, *other), out_specs=gives)
        return jax.jit(local, out_shardings=NamedSharding(mesh, everywhere))

    return _Products(
        losses=on_mesh(_losses, (everywhere,), split),
        pull=on_mesh(_pull, (split,), split),
        take=on_mesh(_take, (everywhere,), everywhere),
        sizes=on_mesh(_sizes, (), (split, split)),
    )


def _losses(rows: Float[Array, "B L N"], weights: Float[Array, " N"]) -> Float[Array, "B L"]:
    return lax.map(lambda block: -jnp.matmul(block.astype(weights.dtype), weights, precision=PRECISION), rows)


def _pull(rows: Float[Array, "B L N"], measure: Float[Array, "B K L"]) -> Float[Array, "1 K N"]:
    parts = lax.map(lambda b: jnp.matmul(b[1], b[0].astype(measure.dtype), precision=PRECISION), (rows, measure))
    return jnp.sum(parts, axis=0, keepdims=True)


def _take(rows: Float[Array, "B L N"], place: Int[Array, " K"]) -> Float[Array, "K N"]:
    flat = rows.reshape(-1, rows.shape[2])
    here = place - lax.axis_index(AXIS) * len(flat)
    found = (here >= 0) & (here < len(flat))
    return lax.psum(
        jnp.where(found[:, None], flat[jnp.clip(here, 0, len(flat) - 1)], 0), AXIS
    )  # one of them is no zero


def _sizes(rows: Float[Array, "B L N"]) -> tuple[Float[Array, "1 N"], Float[Array, " 1"]]:
    def of_block(block: Float[Array, "L N"]) -> tuple[Float[Array, " N"], Float[Array, ""]]:
        exact = block.astype(jnp.float64)
        return jnp.max(jnp.abs(exact), axis=0), jnp.sum(exact * exact)

    largest, squares = lax.map(of_block, rows)
    return jnp.max(largest, axis=0, keepdims=True), jnp.sum(squares, keepdims=True)
