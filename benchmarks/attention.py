"""Attention over one segment's tokens: two batched products against torch's fused kernel, forward and backward.

    python benchmarks/attention.py --tokens 32 --batch 256 --width 128 --threads 1

Both in one process, alternating; prints the median and the spread of each and their ratio (docs/results.md).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def batched_products(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What `model.network.TransformerLayer` does, on (batch * heads, tokens, width / heads)."""
    scores = torch.bmm(queries * queries.shape[-1] ** -0.5, keys.transpose(1, 2))
    return torch.bmm(torch.softmax(scores, dim=-1), values)


def fused(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(queries[None], keys[None], values[None])[0]


def seconds(attention: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor]) -> float:
    started = time.perf_counter()
    attention(*inputs).sum().backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tokens", 32), ("batch", 256), ("width", 128), ("heads", 4), ("threads", 1), ("runs", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = (arguments.batch * arguments.heads, arguments.tokens, arguments.width // arguments.heads)
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [torch.randn(shape).to(dtype).requires_grad_() for _ in range(3)]
        timings: dict[str, list[float]] = {"batched products": [], "fused kernel": []}
        for run in range(arguments.runs + 3):
            for name, attention in (("batched products", batched_products), ("fused kernel", fused)):
                taken = seconds(attention, inputs)
                if run >= 3:  # the first ones choose kernels
                    timings[name].append(taken)
        for name, values in timings.items():
            quartiles = statistics.quantiles(values, n=4)
            print(
                f"{dtype} {name}: median {1e3 * quartiles[1]:.2f} ms, quartiles {1e3 * quartiles[0]:.2f} to "
                f"{1e3 * quartiles[2]:.2f}"
            )
        ratio = statistics.median(timings["fused kernel"]) / statistics.median(timings["batched products"])
        print(f"{dtype}: fused / batched products = {ratio:.2f}")
    print(f"torch {torch.__version__}, {arguments.threads} threads, {shape}")


if __name__ == "__main__":
    main()
