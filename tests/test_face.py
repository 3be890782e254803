"""What ``import zenopt`` gives, and what it does not load for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from structures import TINY

import zenopt
from zenopt.core.errors import StructureError, UnknownNameError


def test_importing_loads_nothing_that_takes_seconds() -> None:
    code = (
        "import sys, zenopt\nzenopt.Budget(params=1e6), zenopt.get_space('superres'), zenopt.list_presets()\n"
        "zenopt.list_models(), zenopt.list_spaces(), zenopt.list_proxies()\n"
        "print(*{'torch', 'optuna', 'plotly', 'sqlalchemy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_name_is_there() -> None:
    assert dir(zenopt) == sorted(zenopt.__all__)  # and nothing that the file imports for itself
    for name in zenopt.__all__:
        assert getattr(zenopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zenopt.nothing  # noqa: B018


def test_lists_name_what_can_be_made() -> None:
    for name in zenopt.list_spaces():
        factory = zenopt.get_space(name)
        assert issubclass(factory, zenopt.BaseSpace)
        # What is made of a table cannot be made without one.
        assert not factory.has_networks or isinstance(factory(), zenopt.BaseSpace)
    assert {"zen", "aging", "tpe"} <= set(zenopt.list_samplers())
    for name in zenopt.list_samplers():
        assert zenopt.StudySpec.load("demo", [f"sampler.name={name}"]).sampler.name == name
    assert "demo" in zenopt.list_presets() and "zen" in zenopt.list_proxies()
    assert isinstance(zenopt.create_model("zennet_cifar10_model_size05M"), torch.nn.Module)


def test_scores_of_architectures_and_names() -> None:
    architecture = zenopt.Architecture.parse(TINY)
    found = zenopt.score(architecture, "params", resolution=32, num_classes=10)
    assert found.value == zenopt.count(architecture, 32, 10).params
    assert zenopt.score(TINY, "params", num_classes=10).value == found.value
    spec = zenopt.StudySpec.load("demo")
    named = zenopt.score("demo", "macs")
    space = spec.build_space()
    assert named.value == zenopt.count(space.parse(space.initial), spec.resolution, spec.num_classes).macs
    gated = zenopt.score(architecture, "params", num_classes=10, use_se=True).value
    assert gated > found.value
    with pytest.raises(StructureError, match="neither a structure string"):
        zenopt.score("nothing of the kind")
    with pytest.raises(UnknownNameError, match="nonsense"):
        zenopt.score(architecture, "nonsense")


def test_published_networks_have_their_own_gates() -> None:
    gated = next(name for name in zenopt.list_models() if name.endswith("_SE"))
    network = zenopt.create_model(gated)
    assert zenopt.score(gated, "params").value == sum(p.numel() for p in network.parameters())
