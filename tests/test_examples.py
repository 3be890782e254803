"""The files in examples/ work; the proxy's and the device's are tested with proxies and latency."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import zenopt
from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.study.spec import StudySpec

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(*arguments: str, cwd: Path) -> str:
    """Run Python on an example; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_extension_point_has_an_example() -> None:
    names = {path.name for path in EXAMPLES.iterdir()}
    assert names >= {
        "custom_block.py", "custom_space.py", "custom_proxy.py", "custom_sampler.py", "run_onnx.py", "grouped.yaml",
        "scaled.yaml", "custom_evaluator.py", "readout.yaml"
    }  # fmt: skip


def test_a_block_is_searched() -> None:
    spec = StudySpec.load(
        EXAMPLES / "grouped.yaml", ["resolution=8", "proxy.batch_size=2", "sampler.screening_candidates=50"]
    )
    result = zenopt.optimize(spec, "memory:", n_trials=4)
    assert result.data.size == 4
    for candidate in result.top(4):
        types = {block.type_name for block in candidate.architecture.blocks[1:-1]}
        assert types <= {"GroupedW4K3", "GroupedW4K5", "GroupedW8K3", "GroupedW8K5"}
        assert candidate.costs["params"] <= 2e5
        # The closed form of a block that zenopt does not know is near its measured score.
    closed, measured = result.data.columns["closed_form"], result.data.values
    assert closed == pytest.approx(measured, rel=0.2)


def test_a_blocks_counts_are_those_of_its_network() -> None:
    import custom_block  # noqa: F401

    from zenopt.nn import build_network

    architecture = zenopt.Architecture.parse(
        "SuperConvK3BNRELU(3,8,1,1)GroupedW4K3(8,16,2,8,2)SuperConvK1BNRELU(16,32,1,1)"
    )
    network = build_network(architecture, num_classes=5)
    assert count(architecture, 16, 5).params == sum(item.numel() for item in network.parameters())


@pytest.mark.slow
def test_a_block_is_searched_exported_and_trained(tmp_path: Path) -> None:
    """Each command is a process of its own, which knows the block because it is told to import the file."""
    own = ("--import", str(EXAMPLES / "custom_block.py"))
    zenopt_ = ("-m", "zenopt")
    run(
        *zenopt_, "optimize", *own, "--study", str(EXAMPLES / "grouped.yaml"), "--trials", "4", "--workers", "2",
        "--set", "resolution=16", "--set", "proxy.batch_size=2", "--set", "sampler.screening_candidates=50",
        "--set", "budget.params=3e4", cwd=tmp_path,
    )  # fmt: skip
    run(
        *zenopt_,
        "export-best",
        *own,
        "--study",
        "grouped",
        "--output",
        "bundle",
        "--repeats",
        "2",
        cwd=tmp_path,
    )
    training = ("train", "--bundle", "bundle", "--data", "synthetic:64", "--epochs", "1", "--device", "cpu")
    with pytest.raises(AssertionError, match="If you trust it, give --import custom_block"):
        run(*zenopt_, *training, "--output", "refused", cwd=tmp_path)
    printed = run(*zenopt_, *training, *own, "--output", "run", cwd=tmp_path)
    assert "at epoch 1" in printed
    data = ("--data", "synthetic:64", "--device", "cpu")
    assert "top-1" in run(*zenopt_, "evaluate", *own, "--weights", "run/best.pt", *data, cwd=tmp_path)
    assert "Grouped" in run(*zenopt_, "describe", *own, "bundle", cwd=tmp_path)


@pytest.mark.slow
def test_blocks_of_ones_own_in_a_built_in_space_reach_the_workers(tmp_path: Path) -> None:
    run(
        "-m", "zenopt", "optimize", "--import", str(EXAMPLES / "custom_block.py"), "--study", "demo", "--trials", "4",
        "--workers", "2", "--set", "space.options.blocks=[GroupedW4K3,SuperResK3K3]", "--set", "resolution=16",
        "--set", "space.initial=SuperConvK3BNRELU(3,8,1,1)GroupedW4K3(8,16,1,8,1)GroupedW4K3(16,24,2,8,1)"
        "GroupedW4K3(24,32,2,8,1)GroupedW4K3(32,32,2,8,1)SuperConvK1BNRELU(32,64,1,1)",
        "--set", "proxy.batch_size=2", "--set", "sampler.screening_candidates=50", "--set", "budget.params=5e4",
        "--set", "timeout_s=600", cwd=tmp_path,
    )  # fmt: skip
    assert zenopt.load_result("demo", f"sqlite:///{tmp_path}/zenopt.db").data.size == 4


def test_a_space_round_trips() -> None:
    from custom_space import ScaledSpace

    space = ScaledSpace(max_width=32)
    rng = random.Random(0)
    architecture = space.parse(space.initial)
    seen = set()
    for _ in range(200):
        architecture = space.mutate(architecture, rng) or architecture
        assert space.decode(space.encode(architecture)) == architecture
        seen.add(str(architecture))
    # 4 widths, 5 depths, 3 kernels, 4 growths; growths coincide where widths are narrow.
    listed = list(map(str, space.architectures() or ()))
    assert 50 < len(seen) <= len(listed) <= 240 and seen <= set(listed) and len(set(listed)) == len(listed)
    sizes = []
    current: zenopt.Architecture | None = architecture
    while current is not None:
        sizes.append(count(current, 32, 10).params)
        current = space.shrink(current)
    assert sizes == sorted(sizes, reverse=True)
    assert not space.contains(
        zenopt.Architecture.parse("SuperConvK3BNRELU(3,8,1,1)SuperConvK1BNRELU(8,8,1,1)")
    )
    with pytest.raises(StructureError, match="is no scaled network"):
        space.encode(zenopt.Architecture.parse("SuperConvK3BNRELU(3,12,1,1)SuperResK3K3(12,16,1,8,1)"))


@pytest.mark.parametrize("sampler", ["zen", "tpe", "aging"])
def test_a_space_is_searched(sampler: str) -> None:
    changes = [
        "resolution=8", "proxy.batch_size=2", "budget.params=6e4", f"sampler.name={sampler}", "trials=6",
        "space.options.max_width=32",
    ]  # fmt: skip
    result = zenopt.optimize(EXAMPLES / "scaled.yaml", "memory:", overrides=changes)
    assert result.data.size == 6
    from custom_space import ScaledSpace

    assert ScaledSpace(max_width=32).contains(result.best.architecture)
    assert result.best.costs["params"] <= 60_000


def test_an_evaluator_gives_values_by_its_options() -> None:
    changes = ["resolution=8", "objective.options={images: 32}"]
    first, again = (
        zenopt.optimize(EXAMPLES / "readout.yaml", "memory:", n_trials=2, overrides=changes) for _ in range(2)
    )
    values = first.data.values
    # Sixteen images judge, and the seed of a trial decides its value.
    assert values.tolist() == again.data.values.tolist() and set(values * 16 % 100) == {0.0}
    with pytest.raises(
        SpecError, match="'noises' is no option of custom_evaluator:Readout, which has images, noise"
    ):
        zenopt.optimize(
            EXAMPLES / "readout.yaml", "memory:", n_trials=1, overrides=["objective.options={noises: 1}"]
        )
    with pytest.raises(SpecError, match="'noise' is no option of proxy, which has none"):
        zenopt.optimize("demo", "memory:", n_trials=1, overrides=["objective.options={noise: 1}"])


def test_a_study_file_lists_an_evaluators_options() -> None:
    assert "options: {images: 128, noise: 1.0}" in _template("custom_evaluator:Readout")
    assert "default_options" not in _template("naswot") and "noise" not in _template("naswot")


def _template(objective: str) -> str:
    from zenopt.study.template import make_template

    return make_template("nasbench201", objective).text


def test_a_sampler_climbs(tmp_path: Path) -> None:
    from custom_sampler import climb

    spec = StudySpec.load(
        "demo",
        [
            "name=climb",
            "resolution=8",
            "num_classes=10",
            "budget.params=5e4",
            "budget.layers=6",
            "proxy.batch_size=2",
        ],
    )
    url = f"sqlite:///{tmp_path}/climb.db"
    result = climb(spec, url, 6)
    data = result.data
    assert data.size == 6
    assert data.scored.all()
    assert result.best.score > data.values[0]
    # Every proposal is one or two blocks away from the best before it.
    for number in range(1, 6):
        parent = data.structures[int(data.values[:number].argmax())]
        child = data.structures[number]
        assert parent is not None and child is not None and child != parent
        pairs = zip(*(zenopt.Architecture.parse(text).blocks for text in (parent, child)), strict=False)
        # Input widths follow the neighbour's output; everything else of a block that was not drawn stays.
        changed = sum(
            (a.type_name, a.out_channels, a.depth) != (b.type_name, b.out_channels, b.depth) for a, b in pairs
        )
        assert changed <= 2
    # Another sampler goes on with the same study.
    assert zenopt.optimize(spec, url, n_trials=1).data.size == 7
