"""How far vectors are from each other: smaller is nearer, whichever the metric.

    l2        the length of the difference
    cosine    1 less the cosine of the angle between them; 1 where one of them is zero
    ip        the inner product, negative

Components are float32 wherever they are kept, and double where anything is computed.  numpy does that for whole blocks;
where it is not installed, or for so few components that loading it would be felt, it is done here.
"""

import sys
from array import array
from math import dist, sqrt
from operator import mul
from types import ModuleType
from typing import Any, Final

from kora.errors import CommandError

L2: Final = "l2"
COSINE: Final = "cosine"
IP: Final = "ip"
METRICS: Final = (L2, COSINE, IP)

COMPONENT_BYTES: Final = 4

# 25 ns a component: 0.2 ms, against 80 ms once to load numpy and 30 MB for good; and 5 ms that a search may take where
# there is no numpy.
_PLAIN_PREFERRED: Final = 8_192
PLAIN_MAX: Final = 200_000


class VectorsExtraMissing(CommandError):
    message = (
        "ERR searching a vector set of this size needs the Python packages numpy and usearch, which are not installed: "
        "pip install 'kora-server[vectors]'"
    )


def numpy_for(components: int) -> ModuleType | None:
    """numpy, to compute with so many components; None where it is to be done without.

    Raises VectorsExtraMissing where it is not installed, and it would take too long without.
    """
    if components <= _PLAIN_PREFERRED and "numpy" not in sys.modules:
        return None
    try:
        import numpy
    except ImportError:
        if components > PLAIN_MAX:
            raise VectorsExtraMissing from None
        return None
    return numpy


def norm_of(vector: "array[float]") -> float:
    return sqrt(sum(map(mul, vector, vector)))


def distances_plain(metric: str, query: "array[float]", data: memoryview, norms: "array[float]") -> list[float]:
    """Of the query to each of the vectors in `data`, one after the other; `norms` are theirs, for cosine only."""
    size = len(query)
    components = data.cast("f")
    rows = [components[start : start + size] for start in range(0, len(components), size)]
    if metric == L2:
        return [dist(query, row) for row in rows]
    products = [sum(map(mul, query, row)) for row in rows]
    if metric == IP:
        return [0.0 - product for product in products]
    query_norm = norm_of(query)
    return [
        max(0.0, 1.0 - product / (norm * query_norm)) if norm and query_norm else 1.0
        for product, norm in zip(products, norms, strict=True)
    ]


def distances_by_numpy(numpy: Any, metric: str, query: "array[float]", data: Any, norms: "array[float]") -> Any:
    """As distances_plain(), of anything that has bytes, as an array of numpy's."""
    target = numpy.array(query, dtype=numpy.float64)
    rows = numpy.frombuffer(data, dtype=numpy.float32).reshape(-1, len(query))
    if metric == L2:
        deltas = rows - target
        return numpy.sqrt(numpy.einsum("ij,ij->i", deltas, deltas))
    products = rows.astype(numpy.float64) @ target
    if metric == IP:
        return 0.0 - products
    scales = numpy.frombuffer(norms, dtype=numpy.float64) * norm_of(query)
    cosines = numpy.divide(products, scales, out=numpy.zeros(len(products)), where=scales != 0.0)
    return numpy.maximum(0.0, 1.0 - cosines)
