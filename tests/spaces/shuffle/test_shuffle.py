"""ShuffleNAS: texts, published counts and networks, its supernet's size."""

from __future__ import annotations

import pytest
import torch
from known import fixture_rows

from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.lowering import lower
from zenopt.nn import build_network
from zenopt.spaces.shuffle.architecture import HEADS, LAYOUTS, PUBLISHED, ShuffleArchitecture
from zenopt.spaces.shuffle.space import ShuffleSpace
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.testing import FamilyTests


class TestShuffle(FamilyTests):
    name = "shuffle"
    options = {"percents": [20, 40, 60]}
    resolution, num_classes = 32, 4
    samples = 6


def uniform(kind: str, percent: int, **options: object) -> ShuffleArchitecture:
    return ShuffleArchitecture((kind,) * 20, (percent,) * 20, **options)  # type: ignore[arg-type]


def test_counts_are_the_published_ones() -> None:
    rows = fixture_rows("spos_shufflenas")
    assert len(rows) == 20
    for row in rows:
        space = ShuffleSpace(
            squeeze_excite=row["squeeze_excite"] == "1",
            head="mobilenetv3" if row["mobilenetv3_head"] == "1" else "plain",
        )
        options = "-se-mobilenetv3" if space.squeeze_excite else ""
        network = space.parse(f"{row['block_choices']}-{row['channel_factor_ids']}{options}")
        costs = count(network, 224, 1000)
        assert (costs.params, costs.macs) == (int(row["params"]), int(row["macs"]))
        flops = int(row["flops_as_published_tool_counts"])
        assert network.published_counts() == {"params": costs.params, "flops": flops}
        assert space.contains(network)


@pytest.mark.parametrize(
    ("name", "flops", "params"),
    [("OneShot-S+", 291.476, 3.541829), ("OneShot+", 297.058, 3.742955), ("OneShot", 327.909, 3.433579)],
)
def test_published_networks_have_names(name: str, flops: float, params: float) -> None:
    found = ShuffleArchitecture.parse(name).published_counts()
    assert found["flops"] / 1e6 == pytest.approx(flops, abs=5e-4)
    assert found["params"] == round(params * 1e6)
    assert str(ShuffleArchitecture.parse(name)) == PUBLISHED[name]


def test_the_ends_of_the_space_cost_what_is_published() -> None:
    """The lower end of the published band (kernels 3, factors 0.6); cheapest and dearest of the whole space."""
    first = {1, 5, 9, 17}  # of each stage: Xception halves the map before it widens it

    def mixed(of_first: str, of_others: str, percent: int) -> float:
        kinds = tuple(of_first if number in first else of_others for number in range(1, 21))
        network = ShuffleArchitecture(kinds, (percent,) * 20, True, "mobilenetv3")
        return network.published_counts()["flops"] / 1e6

    assert mixed("k3", "k3", 60) == pytest.approx(168.06, abs=5e-3)
    assert mixed("xception", "k3", 20) == pytest.approx(64.2, abs=0.05)
    assert mixed("k7", "xception", 200) == pytest.approx(849.5, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("is_plus", "params"), [(True, 17_180_248), (False, 15_938_648)])
def test_its_supernet_has_the_params_of_all_kinds_at_their_widest(is_plus: bool, params: int) -> None:
    space = ShuffleSpace(squeeze_excite=is_plus, head="mobilenetv3")
    with torch.device("meta"):
        assert Supernet(PathSampler(space), 1000).params == params


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("head", HEADS)
def test_heads_and_layouts_are_built_as_counted(head: str, layout: str) -> None:
    architecture = uniform("xception", 40, squeeze_excite=head == "se", head=head, layout=layout)
    network = build_network(architecture, num_classes=7)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sum(value.numel() for value in network.parameters()) == count(architecture, 32, 7).params
    assert network.classifier.in_features == 1024
    assert network.description.units[20].out_channels == LAYOUTS[layout][-1]
    assert ShuffleArchitecture.parse(str(architecture)) == architecture


def test_gates_and_functions_are_those_of_later_stages() -> None:
    plain, gated = uniform("k5", 100), uniform("k5", 100, squeeze_excite=True)
    assert not [layer for layer in lower(plain, 224) if layer.role == "se"]
    layers = lower(gated, 224)
    # Units: the stem, then the blocks; gates from the third stage on, ReLU in the first.
    assert {layer.block for layer in layers if layer.role == "se"} == set(range(9, 21))
    assert {layer.block for layer in layers if layer.kind == "relu" and layer.role != "se"} == set(
        range(1, 5)
    )
    assert (plain.description.dropout, gated.description.dropout) == (0.1, 0.2)
    widths = {
        (layer.in_channels, layer.out_channels) for layer in layers if layer.role == "se" and layer.macs
    }
    assert widths == {(160, 40), (40, 160), (320, 80), (80, 320)}


def test_half_of_the_shuffled_channels_pass() -> None:
    block = build_network(uniform("k3", 20), num_classes=2).units()[2].eval()
    x = torch.randn(1, 64, 8, 8)
    out = block(x)
    # Shuffling two groups of 32 puts channels 0, 32, 1, 33, ... first.
    order = torch.arange(64).view(2, 32).T.flatten()[:32]
    assert out.shape == x.shape and torch.equal(out[:, :32], x[:, order])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0" * 20, "20 digits from 0 to 3, a hyphen and 20 digits"),
        (f"{'4' * 20}-{'0' * 20}", "20 digits from 0 to 3"),
        (f"{'0' * 20}-{'0' * 20}-nonsense", "-sehead or -mobilenetv3"),
        ("OneShot++", r"or a name \(OneShot, OneShot\+, OneShot-S\+\)"),
    ],
)
def test_other_texts_are_errors(text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        ShuffleSpace().parse(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"percents": (50,)}, r"space.percents must be different ones of 20, 40.*; got \[50\]"),
        ({"percents": ()}, "space.percents"),
        ({"head": "fancy"}, "space.head must be one of plain, se, mobilenetv3; got 'fancy'"),
        ({"layout": "wide"}, "space.layout must be one of oneshot, shufflenetv2+"),
        ({"squeeze_excite": "yes"}, "space.squeeze_excite must be one of True, False"),
    ],
)
def test_options_are_checked(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        ShuffleSpace(**options)  # type: ignore[arg-type]


def test_networks_of_other_options_are_outside() -> None:
    space = ShuffleSpace(percents=(60, 80))
    with pytest.raises(StructureError, match=r"squeeze_excite is False; allowed is True"):
        space.encode(space.parse("OneShot"))
    with pytest.raises(StructureError, match=r"block1.percent is 180; allowed are 60, 80"):
        space.encode(space.parse("OneShot-S+"))
    with pytest.raises(StructureError, match="no inner width in percent '50'"):
        uniform("k3", 50)
