"""What sharing passes saves: the zero-cost-nas measures together, against one at a time, in CPU time of the same run.

    python benchmarks/proxies.py [--repeats 3]

The network is a NAS-Bench-201 cell network, the batch 64 noise images of 32 pixels. One thread; procedures take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from zenopt.nn import build_network
from zenopt.proxies import evaluate
from zenopt.spaces.nasbench201.architecture import CellArchitecture

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
GROUPS = {
    "first order": ("grad_norm", "snip", "plain", "fisher", "jacob_cov"),
    "all eight": ("grad_norm", "snip", "grasp", "fisher", "jacob_cov", "plain", "synflow_bn", "synflow"),
}


def cpu_seconds(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, names: list[str]
) -> float:
    start = time.process_time()
    results = evaluate(network, images, labels, names)
    assert not [name for name, result in results.items() if result.error]
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network(CellArchitecture.parse(CELL), num_classes=10)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    for title, names in GROUPS.items():
        together, apart = [], []
        for _ in range(arguments.repeats):
            together.append(cpu_seconds(network, images, labels, list(names)))
            apart.append(sum(cpu_seconds(network, images, labels, [name]) for name in names))
        ratio = statistics.median(apart) / statistics.median(together)
        print(
            f"{title:12} one at a time {statistics.median(apart):.2f} s, together {statistics.median(together):.2f} s: "
            f"{ratio:.2f}x"
        )


if __name__ == "__main__":
    main()
