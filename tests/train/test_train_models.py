from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import load_fixture, structures

from zenopt.core.costs import count
from zenopt.core.errors import UnknownNameError
from zenopt.nn import build_network
from zenopt.nn.weights import CheckpointError, load_weights
from zenopt.spaces.chain import zoo as models
from zenopt.spaces.chain.checkpoint import zennas_keys


def filled(shapes: list[list[str]]) -> dict[str, torch.Tensor]:
    """The weights of the reference's golden logits: normal numbers drawn by the place of each key."""
    state = {}
    names = [key for key, _ in shapes]
    for index, (key, text) in enumerate(shapes):
        shape = tuple(int(side) for side in text.split("x")) if text else ()
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.long)
            continue
        g = (
            np.random.RandomState(index)
            .standard_normal(int(np.prod(shape)))
            .astype(np.float32)
            .reshape(shape)
        )
        if key.endswith("running_var"):
            value = 1 + np.float32(0.1) * np.abs(g)
        elif len(shape) > 1:
            value = g * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif key.endswith("weight") and key.replace("weight", "running_var") in names:
            value = 1 + np.float32(0.1) * g
        else:
            value = np.float32(0.1) * g
        state[key] = torch.from_numpy(value)
    return state


@pytest.mark.parametrize("fixture", ["zennas_checkpoint_cifar10", "zennas_checkpoint_imagenet_se"])
def test_a_zennas_checkpoint_file_gives_its_logits(fixture: str, tmp_path: Path) -> None:
    golden = load_fixture(fixture)
    torch.save({"state_dict": filled(golden["keys"])}, tmp_path / "zennas.pth")
    network = models.create(golden["name"], weights=tmp_path / "zennas.pth").eval()
    side = golden["resolution"]
    x = np.random.RandomState(12345).standard_normal((2, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(x))
    wanted = torch.tensor(golden["logits"])
    assert (logits - wanted).abs().max() <= 1e-3 * wanted.abs().max()


def test_every_card_is_a_published_structure() -> None:
    published = {record["structure"]: record for record in structures() if record["id"].startswith("zennet_")}
    assert len(models.list_models()) == 15
    for name in models.list_models():
        card = models.card(name)
        record = published[card.structure]
        assert card.resolution == record["resolution"]
    assert {models.card(name).structure for name in models.list_models()} == set(published)


def test_listing_and_names() -> None:
    assert models.list_models("*cifar100*") == [f"zennet_cifar100_model_size{s}" for s in ("05M", "1M", "2M")]
    assert models.card("zennet_imagenet1k_latency12ms_res224").crop_size == 380
    assert models.card("zennet_imagenet1k_latency01ms").crop_size == 320
    with pytest.raises(UnknownNameError, match="zennet_imagenet1k_latency01ms"):
        models.card("zennet_imagenet1k_latency1ms")


def test_params_of_a_created_network() -> None:
    from zenopt.spaces.chain.architecture import Architecture

    card = models.card("zennet_cifar100_model_size05M")
    network = models.create(card.name)
    built = sum(parameter.numel() for parameter in network.parameters())
    assert built == count(Architecture.parse(card.structure), 32, 100).params


def test_weights_must_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        models.create("zennet_cifar10_model_size05M", weights=tmp_path / "none.pth")
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"bad\.pth cannot be read"):
        models.create("zennet_cifar10_model_size05M", weights=tmp_path / "bad.pth")
    network = models.create("zennet_cifar10_model_size05M")
    torch.save(network.state_dict(), tmp_path / "ten.pth")
    with pytest.raises(CheckpointError, match="for 10 classes, the network here has 100"):
        models.create("zennet_cifar100_model_size05M", weights=tmp_path / "ten.pth")
    theirs = {key: network.state_dict()[ours] for key, ours in zennas_keys(network).items()}  # type: ignore[arg-type]
    torch.save(theirs, tmp_path / "zennas.pth")
    with pytest.raises(CheckpointError, match="for 10 classes, the network here has 100"):
        models.create("zennet_cifar100_model_size05M", weights=tmp_path / "zennas.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        models.create("zennet_cifar10_model_size1M", weights=tmp_path / "ten.pth")


@pytest.mark.parametrize("theirs", [False, True])
def test_weights_for_other_classes_can_be_fine_tuned(tmp_path: Path, theirs: bool) -> None:
    old = models.create("zennet_cifar10_model_size05M")
    state = old.state_dict()
    if theirs:
        state = {key: state[ours] for key, ours in zennas_keys(old).items()}  # type: ignore[arg-type]
    torch.save(state, tmp_path / "ten.pth")
    new = models.create("zennet_cifar100_model_size05M")
    classifier = new.classifier.weight.detach().clone()
    assert not load_weights(new, tmp_path / "ten.pth", new_classifier=True)
    assert torch.equal(new.classifier.weight, classifier)
    ours = old.state_dict()
    same = {key for key, value in new.state_dict().items() if torch.equal(value, ours[key])}
    assert set(ours) - same == {"classifier.weight", "classifier.bias"}
    assert load_weights(
        models.create("zennet_cifar10_model_size05M"), tmp_path / "ten.pth", new_classifier=True
    )


def test_a_pickle_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (marker,))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError):
        models.create("zennet_cifar10_model_size05M", weights=tmp_path / "evil.pth")
    assert not marker.exists()


def test_build_network_is_what_create_builds() -> None:
    from zenopt.spaces.chain.architecture import Architecture

    card = models.card("zennet_imagenet1k_flops400M_SE")
    assert card.use_se
    own = build_network(Architecture.parse(card.structure), num_classes=1000, use_se=True)
    assert own.state_dict().keys() == models.create(card.name).state_dict().keys()


def test_the_models_command() -> None:
    import json

    from click.testing import CliRunner

    from zenopt.cli.models import models as command

    result = CliRunner().invoke(command, ["*latency1*", "--json"])
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)
    assert found["name"] == "zennet_imagenet1k_latency12ms" and found["crop_size"] == 380
    assert "224 px, 1,000 classes, squeeze-excite" in CliRunner().invoke(command, ["*flops400M*"]).stdout
