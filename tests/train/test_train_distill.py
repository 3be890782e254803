from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zenopt.nn.weights import CheckpointError
from zenopt.train.data import DataSet
from zenopt.train.distill import Distiller
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.errors import TrainError
from zenopt.train.features import FeatureTap, reduce_images
from zenopt.train.networks import NetworkSource, build_teacher
from zenopt.train.recipe import Distill, Recipe, load_recipe
from zenopt.train.run import train

STUDENT = "SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,8,2,8,1)SuperConvK1BNRELU(8,12,1,1)"


class Pyramid(nn.Module):
    """Halves the image twice by means, so that every map is known by hand."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.first = nn.AvgPool2d(2)
        self.second = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 3, 1, bias=False))
        nn.init.dirac_(self.second[1].weight)
        self.second[1].weight.data *= scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)).mean((2, 3))


def test_taps_keep_the_deepest_map_of_a_ratio() -> None:
    network = Pyramid(2.0)
    tap = FeatureTap(network, (2, 4), 16)
    assert tap.channels == {2: 3, 4: 3}
    x = torch.rand(5, 3, 16, 16)
    network(x)
    assert torch.allclose(tap.maps[2], F.avg_pool2d(x, 2))
    assert torch.allclose(tap.maps[4], 2 * F.avg_pool2d(x, 4))
    assert network.training
    with pytest.raises(TrainError, match=r"ratio 8 .*it has 2, 4"):
        FeatureTap(network, (8,), 16)


def test_taps_agree_with_the_stages_of_a_network() -> None:
    network = NetworkSource.from_structure(STUDENT, 16).build(4).eval()
    tap = FeatureTap(network, (2, 4), 16)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        network(x)
        stages = network.forward_stages(x)
    assert all(torch.equal(tap.maps[ratio], stages[ratio]) for ratio in (2, 4))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_published_one(temperature: float) -> None:
    student, teacher = Pyramid(1.0), Pyramid(3.0)
    options = Distill(
        teacher="", ratios=(2, 4), feature_weight=0.5, logit_weight=2.0, temperature=temperature
    )
    tap = FeatureTap(student, options.ratios, 16)
    distiller = Distiller(teacher, tap, options, 24)
    x = torch.rand(4, 3, 24, 24)
    # The student sees the crop reduced to its resolution, the teacher the crop itself.
    assert {key: tuple(p.shape) for key, p in distiller.named_parameters()} == {
        "adapters.2.weight": (3, 3, 1, 1),
        "adapters.2.bias": (3,),
        "adapters.4.weight": (3, 3, 1, 1),
        "adapters.4.bias": (3,),
    }
    # They begin near zero, as published, and learn.
    weights = [distiller.adapters[ratio].weight for ratio in ("2", "4")]
    assert all(0 < weight.abs().max() < 1e-3 for weight in weights)
    for adapter in distiller.adapters.values():
        nn.init.normal_(adapter.weight)
        nn.init.normal_(adapter.bias)
    logits = student(reduce_images(x, 16))
    loss = distiller(x, logits)
    expected = torch.zeros(())
    with torch.no_grad():
        for ratio, scale in ((2, 1.0), (4, 3.0)):
            goal = scale * F.avg_pool2d(x, ratio)
            feature = distiller.adapters[str(ratio)](tap.maps[ratio])
            goal = F.interpolate(goal, size=feature.shape[-2:], mode="bilinear", align_corners=False)
            expected += 0.5 * F.smooth_l1_loss(feature, goal)
        soft = F.softmax(teacher(x) / temperature, 1)
        expected += 2 * temperature**2 * -(soft * F.log_softmax(logits / temperature, 1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in distiller.parameters())
    distiller.train()
    assert not teacher.training


def recipe(*options: str) -> Recipe:
    return load_recipe("basic", ["epochs=1", "batch_size=32", "augment.flip=0", *options])


def test_a_student_learns_from_a_trained_teacher(patches: DataSet, tmp_path: Path, alone: World) -> None:
    source = NetworkSource.from_structure(STUDENT, 16)
    teacher = source.build(4)
    fit(
        teacher,
        patches,
        load_recipe("basic", ["epochs=8", "batch_size=16", "optimizer.lr=0.8", "augment.flip=0"]),
        output=tmp_path / "teacher",
        resolution=16,
        identity=source.facts(),
        world=alone,
    )
    (tmp_path / "bundle").mkdir()
    from zenopt.export.bundle import Bundle, write_bundle

    write_bundle(Bundle(structure=STUDENT, resolution=16, num_classes=4), tmp_path / "bundle")
    best = (tmp_path / "teacher" / "best.pt").read_bytes()
    (tmp_path / "bundle" / "best.pt").write_bytes(best)
    found, side = build_teacher(f"bundle:{tmp_path / 'bundle'}", None, None)
    assert side == 16
    student = source.build(4)
    options = ["distill={teacher: 'bundle:x', ratios: [2, 4]}", "epochs=4", "crop_size=24"]
    result = fit(
        student,
        patches,
        recipe(*options),
        output=tmp_path / "student",
        resolution=16,
        identity=source.facts(),
        world=alone,
        teacher=(found, side),
    )
    losses = [row["train_loss"] for row in result.history]
    assert losses[-1] < losses[0]
    # The 1x1 convolutions are kept for resuming, and are no part of the network.
    saved = torch.load(tmp_path / "student" / "last.pt", weights_only=True)
    assert set(saved["extras"]) == {
        f"distiller.adapters.{ratio}.{name}" for ratio in (2, 4) for name in ("weight", "bias")
    }
    assert saved["model"].keys() == source.build(4).state_dict().keys()
    # The teacher was left as it was.
    kept = torch.load(tmp_path / "bundle" / "best.pt", weights_only=True)["model"]
    assert all(torch.equal(value, kept[key]) for key, value in found.state_dict().items())


def test_a_teacher_of_other_classes_is_refused_unless_only_its_features_teach() -> None:
    student, teacher = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, 4)), Pyramid(1.0)
    tap = FeatureTap(student, (2,), 16)
    x = torch.rand(2, 3, 16, 16)
    with pytest.raises(TrainError, match=r"teacher knows 3 classes, the data 4.*logit_weight=0"):
        Distiller(teacher, tap, Distill(teacher="", ratios=(2,)), 16)(x, student(x))
    alone = Distiller(teacher, tap, Distill(teacher="", ratios=(2,), logit_weight=0), 16)
    assert alone(x, student(x)).item() > 0


def test_a_teacher_without_weights_stops_before_the_data_is_read(tmp_path: Path, alone: World) -> None:
    source = NetworkSource.from_structure(STUDENT, 16)

    def start(teacher: str, weights: str = "") -> None:
        distill = f"distill={{teacher: '{teacher}'{f', weights: {weights}' if weights else ''}}}"
        # The data does not exist either; the teacher is looked at first.
        train(source, "imagefolder:/nowhere", recipe(distill), output=tmp_path, world=alone)

    with pytest.raises(CheckpointError, match=r"/none\.pth does not exist"):
        start("torchvision:resnet18", "/none.pth")
    with pytest.raises(TrainError, match=r"needs distill\.weights: a local ZenNAS checkpoint"):
        start("zennet_imagenet1k_latency01ms")


def test_weights_that_cannot_be_downloaded_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(*_args: object, **_options: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(TrainError, match="neither in the cache nor to be had; give a local file"):
        build_teacher("torchvision:resnet18", None, None)


def test_a_local_file_makes_a_library_teacher(tmp_path: Path) -> None:
    import torchvision

    torch.save(torchvision.models.shufflenet_v2_x0_5(num_classes=5).state_dict(), tmp_path / "own.pth")
    teacher, side = build_teacher("torchvision:shufflenet_v2_x0_5", str(tmp_path / "own.pth"), 64)
    assert side == 64 and teacher.fc.out_features == 5
