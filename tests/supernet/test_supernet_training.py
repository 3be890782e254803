from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
from supernets import TINY_OPTIONS, Killer, space_of, tiny_plan

from zenopt.core.errors import CheckpointError, ProxyError, SpecError
from zenopt.core.extensions import names_object
from zenopt.correlate.batch import make_minibatch
from zenopt.correlate.measure import Measurement, measure
from zenopt.correlate.score_cache import ScoreCache
from zenopt.nn.modules import ResidualModule
from zenopt.nn.weights import read_torch_file
from zenopt.proxies import get_proxy, score_architecture
from zenopt.spaces.registry import get_space
from zenopt.supernet.files import SUPERNET_FILE, has_ended, kept_epochs, read_supernet
from zenopt.supernet.images import IMAGES_FILE, collect
from zenopt.supernet.judging import PathJudge, settle
from zenopt.supernet.module import Supernet
from zenopt.supernet.rank import rank
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.training import check_recipe, last_weights, split, train_supernet
from zenopt.train import checkpoint
from zenopt.train.data import DataSet, MemoryImages
from zenopt.train.distributed import World
from zenopt.train.errors import TrainError
from zenopt.train.recipe import Recipe, load_recipe
from zenopt.train.regularise import initialise


@pytest.mark.parametrize("sampling", ["fair", pytest.param("sandwich", marks=pytest.mark.slow)])
def test_a_stopped_training_resumes_to_the_same_bits(
    sampling: str, patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    plan = tiny_plan(sampling)  # type: ignore[arg-type]
    data, recipe = split(patches, 0.2, plan), check_recipe(short)
    for folder, steps in (("whole", 0), ("stopped", 7)):
        options = {"output": tmp_path / folder, "world": alone, "checkpoint_steps": 1, "workers": 0}
        if steps:
            with pytest.raises(KeyboardInterrupt):
                train_supernet(plan, data, recipe, **options, observer=Killer(steps))  # type: ignore[arg-type]
            with pytest.raises(
                CheckpointError, match=r"half trained \(1 of 3 epochs\); go on with its training"
            ):
                read_supernet(tmp_path / folder)
        train_supernet(plan, data, recipe, **options, resume="auto")  # type: ignore[arg-type]
    whole, stopped = (last_weights(tmp_path / folder) for folder in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    one, other = (read_supernet(tmp_path / folder) for folder in ("whole", "stopped"))
    assert torch.equal(one.images.judged, other.images.judged)
    assert all(torch.equal(one.weights.tensors[name], whole[name]) for name in whole)


def test_weights_of_epochs_are_kept_whatever_ends_a_run(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan("fair")
    data, recipe = split(patches, 0.2, plan), check_recipe(short)
    options: dict[str, Any] = {"world": alone, "workers": 0}
    whole, ended, later = (tmp_path / name for name in ("whole", "ended", "later"))
    train_supernet(plan, data, recipe, output=whole, keep_every=1, **options)
    # The third epoch is the supernet itself.
    assert kept_epochs(whole) == [1, 2]
    save = checkpoint.save

    def dies(path: Path, content: dict[str, Any]) -> None:
        if path.name == checkpoint.LAST and content["state"]["epoch"] == 2:
            raise KeyboardInterrupt
        save(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", dies)
        train_supernet(plan, data, recipe, output=ended, keep_every=2, **options)
    assert kept_epochs(ended) == [2]
    assert not has_ended(ended)
    # It can be ranked before its end, and one that began without keeping may keep from then on.
    assert read_supernet(ended, 2).images.judged.shape == read_supernet(whole).images.judged.shape
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", dies)
        train_supernet(plan, data, recipe, output=later, **options)
    assert kept_epochs(later) == []
    for folder in (ended, later):
        (folder / ".epoch-0002.pt.4711").write_text("half")
        train_supernet(plan, data, recipe, output=folder, resume="must", keep_every=2, **options)
        assert kept_epochs(folder) == [2] and has_ended(folder)
        assert not (folder / ".epoch-0002.pt.4711").exists()
        for epoch in (2, None):
            one, other = (read_supernet(own, epoch).weights.tensors for own in (whole, folder))
            assert all(torch.equal(one[name], other[name]) for name in one)
    first, second = (read_supernet(whole, epoch).weights.tensors for epoch in (1, 2))
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a supernet that has learned something."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 4
    pixels = torch.randint(0, 120, (160, 3, 16, 16), generator=generator)
    for index, label in enumerate(labels.tolist()):
        row, column = 8 * (label // 2), 8 * (label % 2)
        pixels[index, :, row : row + 8, column : column + 8] += 120
    images = MemoryImages(pixels.to(torch.uint8), labels)
    data = DataSet("patches", ("nw", "ne", "sw", "se"), images, images, "none")
    plan = tiny_plan()
    recipe = check_recipe(
        load_recipe(
            "basic",
            [
                "epochs=8",
                "batch_size=16",
                "optimizer.lr=0.8",
                "augment.flip=0",
                "augment.crop.padding=1",
                "schedule.warmup_epochs=0.5",
            ],
        )
    )
    folder = tmp_path_factory.mktemp("supernet")
    world = World(0, 1, torch.device("cpu"))
    train_supernet(
        plan, split(data, 0.2, plan), recipe, output=folder, world=world, judged=30, settling=40, workers=0
    )
    return folder


def test_a_trained_path_is_better_than_chance_and_than_a_fresh_network(trained: Path) -> None:
    supernet = read_supernet(trained)
    assert supernet.facts.options == {
        name: list(value) if isinstance(value, tuple) else value for name, value in TINY_OPTIONS.items()
    }
    assert len(supernet.images.judged) == 30 and len(supernet.images.settling) == 40
    judge = PathJudge(supernet)
    sampler = tiny_plan().sampler
    accuracies = [judge.accuracy(sampler.draw(step, "judged")) for step in range(5)]
    assert sorted(accuracies)[2] > 60  # of four classes
    assert accuracies == [judge.accuracy(sampler.draw(step, "judged")) for step in range(5)]


def test_images_of_a_sorted_data_set_are_mixed() -> None:
    labels = torch.arange(400) // 100
    pixels = (labels * 50)[:, None, None, None].expand(-1, 3, 16, 16).to(torch.uint8)
    images = MemoryImages(pixels, labels)
    data = split(DataSet("sorted", ("a", "b", "c", "d"), images, images, "none"), 0.2, tiny_plan())
    assert len(data.test.labels[:20].unique()) == 4
    kept = collect(data, Recipe(), 16, judged=40, settling=40)
    assert len(kept.labels[:20].unique()) == 4
    assert torch.equal(kept.judged[:, 0, 0, 0], (kept.labels * 50).to(torch.uint8))
    norm = torch.nn.BatchNorm2d(3)
    settle(torch.nn.Sequential(norm), kept.settling.float())
    assert norm.running_var is not None and float(norm.running_var[0]) > 1000  # within a class there is none


def test_settled_statistics_are_those_of_the_images() -> None:
    norm = torch.nn.BatchNorm2d(3)
    images = torch.randn(128, 3, 4, 4) * 2 + 5
    settle(torch.nn.Sequential(norm), images)
    assert torch.allclose(norm.running_mean, images.mean((0, 2, 3)), atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(norm.running_var, images.var((0, 2, 3)), rtol=0.02)  # type: ignore[arg-type]
    assert not norm.training and norm.momentum == 0.1


def test_a_ranking_says_how_the_orders_agree(trained: Path) -> None:
    supernet = read_supernet(trained)
    judge, sampler = PathJudge(supernet), tiny_plan().sampler
    architectures = list(
        {str(found): found for found in (sampler.draw(step, "r") for step in range(6))}.values()
    )
    known = {str(found): judge.accuracy(found) for found in architectures}
    found = rank(supernet, architectures, known, judge, resamples=20)
    assert found.accuracies == known and set(found.of_costs) == {"params", "macs"}
    if len(set(known.values())) > 1:
        assert found.statistics.kendall.value == pytest.approx(1.0)
    reverse = rank(
        supernet, architectures, {name: -value for name, value in known.items()}, judge, resamples=0
    )
    assert reverse.statistics.kendall.value == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (SUPERNET_FILE, {"weights": {}}, "supernet"),
        (SUPERNET_FILE, {"weights": {"a": 1}, "supernet": {}}, "holds no weights of a supernet"),
        (IMAGES_FILE, {"judged": 1}, "holds no images of a supernet"),
        (IMAGES_FILE, None, "does not exist"),
    ],
)
def test_damaged_files_are_one_line(
    trained: Path, tmp_path: Path, name: str, content: dict[str, object] | None, match: str
) -> None:
    for own in (SUPERNET_FILE, IMAGES_FILE):
        (tmp_path / own).write_bytes((trained / own).read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_supernet(tmp_path)
    assert "\n" not in str(caught.value)


def test_tensors_read_from_a_map_are_those_of_the_file(trained: Path) -> None:
    path = trained / SUPERNET_FILE
    mapped, read = (read_torch_file(path, mmap=mmap)["weights"] for mmap in (True, False))
    assert all(torch.equal(mapped[name], read[name]) for name in read)


def test_what_only_single_networks_have_is_refused() -> None:
    for option in ("model.drop_path=0.1", "loss.auxiliary={}", "model.dropout=0.1", "sync_bn=true"):
        with pytest.raises(SpecError, match="for single networks"):
            check_recipe(load_recipe("basic", [option]))


def test_classes_must_agree(patches: DataSet) -> None:
    from dataclasses import replace

    with pytest.raises(TrainError, match="has 3 classes, the study's networks have 4"):
        split(replace(patches, classes=("a", "b", "c")), 0.2, tiny_plan())


def test_a_supernet_is_a_proxy_by_name(trained: Path, tmp_path: Path) -> None:
    name = f"supernet:{trained}"
    assert not names_object(name)
    judge, sampler = PathJudge(read_supernet(trained)), tiny_plan().sampler
    architectures = {str(found): found for found in (sampler.draw(step, "p") for step in range(4))}
    settings = Measurement(make_minibatch(None, 8, 24, 10, 0), 10)
    with ScoreCache(tmp_path / "scores.db") as cache:
        found = measure(architectures.values(), [name, "params"], settings, cache)
        assert {text: score.value for text, score in found[name].items()} == {
            text: judge.accuracy(own) for text, own in architectures.items()
        }
        # Another supernet in the same folder is another proxy: no score of the earlier one is taken for its own.
        path = trained / SUPERNET_FILE
        before = path.stat()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert not cache.get({**settings.identity(), "version": get_proxy(name).version}, name)
        assert cache.get({**settings.identity(), "version": str(before.st_mtime_ns)}, name)
    with pytest.raises(ProxyError, match="holds no supernet"):
        get_proxy(f"supernet:{tmp_path}")
    # It is judged at the resolution of the supernet, whatever is asked for.
    text, own = next(iter(architectures.items()))
    assert score_architecture(own, name, resolution=32).resolution == 16
    done = commands.run("score", text, "--resolution", 32, "--proxy", name)
    assert "(at 16 px; " in done.stdout, done.output
    facts = json.loads(commands.run("score", text, "--resolution", 32, "--proxy", name, "--json").stdout)
    assert facts["resolution"] == 16 and "num_classes" not in facts
    outside = get_space("nasbench-macro")().parse("11111111")
    with pytest.raises(ProxyError, match="does not hold 11111111"):
        score_architecture(outside, name, resolution=16)


def test_lower_precision_judges_alike(trained: Path) -> None:
    supernet = read_supernet(trained)
    whole, lower = PathJudge(supernet), PathJudge(supernet, amp="bf16")
    found = tiny_plan().sampler.draw(0, "judged")
    assert abs(whole.accuracy(found) - lower.accuracy(found)) < 15


@pytest.mark.parametrize("name", ["nasbench-macro", "superres"])
def test_residuals_begin_as_their_shortcuts(name: str) -> None:
    sampler = PathSampler(space_of(name), seed=3)
    supernet = Supernet(sampler, 4)
    initialise(supernet, "shortcuts")
    zero = {own for own, layer in supernet.layers.items() if not bool(layer.weight.any())}  # type: ignore[operator]
    assert zero and all("/residual" in own and "/body/norm" in own for own in zero)
    for step in range(5):
        network = supernet.shared.network(sampler.draw(step, "shortcut")).train()
        for module in network.modules():
            if isinstance(module, ResidualModule):
                channels = next(own for own in module.body if isinstance(own, torch.nn.Conv2d)).in_channels
                images = torch.randn(4, channels, 6, 6)
                assert torch.equal(module(images), (module.projection or torch.nn.Identity())(images))
