"""What is promised of every family of networks, as tests that a family of your own runs in a few lines.

In a file that pytest collects::

    from zenopt.testing import FamilyTests

    class TestMine(FamilyTests):
        name, options = "mine", {"max_width": 32}
        resolution, num_classes = 16, 4

Networks are built and trained, so choose options that give small ones.
"""

from __future__ import annotations

import pickle
import random
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.description import describe
from zenopt.core.lowering import lower
from zenopt.differentiable.network import SearchNetwork
from zenopt.export.bundle import Bundle, read_bundle, write_bundle
from zenopt.export.standalone import model_source
from zenopt.latency.limits import Limits
from zenopt.nn import build_network
from zenopt.spaces.base import BaseSpace
from zenopt.spaces.registry import get_space, parse_architecture
from zenopt.storage import open_storage
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study
from zenopt.supernet.layers import LAYERS, layers_of


class FamilyTests:
    """Tests of a space and its architectures.

    Attributes:
        name: Name of the space, or ``module:Class``.
        options: Its options, as in a study file.
        resolution: Side of the square input image in pixels at which networks are counted and built.
        num_classes: Outputs of the classifier.
        samples: Random architectures that are looked at.
        samplers: Names of the samplers that must find feasible architectures.
    """

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    resolution: ClassVar[int] = 32
    num_classes: ClassVar[int] = 10
    samples: ClassVar[int] = 12
    samplers: ClassVar[tuple[str, ...]] = ("zen", "aging", "surrogate", "random", "tpe", "nsga2")

    @cached_property
    def space(self) -> BaseSpace:
        """The space."""
        found = get_space(self.name)(**self.options)
        assert isinstance(found, BaseSpace), "a space derives from zenopt.spaces.BaseSpace"
        return found

    @cached_property
    def architectures(self) -> list[Any]:
        """Different random architectures of the space, the initial one first."""
        rng = random.Random(0)
        found = {self.space.initial: self.space.parse(self.space.initial)}
        for _ in range(20 * self.samples):
            drawn = self.space.draw(rng)
            if drawn is not None:
                found.setdefault(str(drawn), drawn)
            if len(found) > self.samples:
                break
        assert len(found) > 1, "draw() gives nothing but the initial architecture"
        return list(found.values())

    def test_texts_come_back(self) -> None:
        for architecture in self.architectures:
            text = str(architecture)
            assert self.space.parse(text) == architecture
            assert parse_architecture(architecture.family, text) == architecture
            assert hash(self.space.parse(text)) == hash(architecture)
            assert pickle.loads(pickle.dumps(architecture)) == architecture

    def test_parameters_come_back(self) -> None:
        distributions = self.space.distributions
        for architecture in self.architectures:
            params = self.space.encode(architecture)
            assert self.space.contains(architecture) and self.space.is_complete(params)
            assert self.space.decode(params) == architecture
            for name, value in params.items():
                assert distributions[name]._contains(distributions[name].to_internal_repr(value)), name
            missing = dict(params)
            missing.pop(next(iter(missing)))
            assert not self.space.is_complete(missing)

    def test_what_is_listed_is_every_architecture_once(self) -> None:
        listed = self.space.architectures()
        if listed is None:
            pytest.skip("the space is too large to be listed")
        texts = list(map(str, listed))
        assert len(set(texts)) == len(texts) and set(map(str, self.architectures)) <= set(texts)
        assert all(self.space.contains(self.space.parse(text)) for text in texts[: self.samples])

    def test_a_trial_spells_an_architecture(self) -> None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for all_slots in (False, True):
            for _ in range(self.samples):
                trial = study.ask()
                architecture = self.space.suggest(trial, all_slots=all_slots)
                assert self.space.contains(architecture)
                assert self.space.decode(trial.params) == architecture

    def test_moves_stay_inside(self) -> None:
        rng = random.Random(1)
        for name, move in self.space.moves.items():
            moved = 0
            for architecture in self.architectures:
                for blocks in (1, 2):
                    child = move(architecture, rng, blocks=blocks)
                    if child is not None:
                        assert self.space.contains(child), name
                        moved += child != architecture
            assert moved, f"the move {name!r} never changes anything"

    def test_neighbours_differ_and_are_inside(self) -> None:
        for architecture in self.architectures[:4]:
            found = self.space.neighbours(architecture)
            assert found and len(set(found)) == len(found)
            assert all(self.space.contains(other) and other != architecture for other in found)

    def test_shrinking_ends_and_saves(self) -> None:
        for architecture in self.architectures:
            steps, smaller = 0, architecture
            while (following := self.space.shrink(smaller)) is not None:
                assert self.space.contains(following) and following != smaller
                smaller, steps = following, steps + 1
                assert steps < 10_000, "shrink() does not end"
            before, after = (
                count(item, self.resolution, self.num_classes) for item in (architecture, smaller)
            )
            assert (after.params, after.macs) <= (before.params, before.macs)

    def test_counts_are_those_of_the_network(self) -> None:
        image = torch.zeros(1, 3, self.resolution, self.resolution)
        for architecture in self.architectures[:6]:
            costs = count(architecture, self.resolution, self.num_classes)
            network = build_network(architecture, num_classes=self.num_classes).eval()
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                assert network(image).shape == (1, self.num_classes)
            assert costs.params == sum(parameter.numel() for parameter in network.parameters())
            assert costs.macs == counter.get_total_flops() // 2
            layers = lower(architecture, self.resolution, num_classes=self.num_classes)
            assert sum(layer.params for layer in layers) == costs.params

    def test_a_standalone_file_has_the_same_weights(self, tmp_path: Path) -> None:
        import importlib.util

        architecture = self.architectures[-1]
        file = tmp_path / "standalone_model.py"
        file.write_text(model_source(architecture, resolution=self.resolution, num_classes=self.num_classes))
        specification = importlib.util.spec_from_file_location("standalone_model", file)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        own = build_network(architecture, num_classes=self.num_classes).eval()
        other = module.build().eval()
        other.load_state_dict(own.state_dict())
        image = torch.randn(2, 3, self.resolution, self.resolution)
        with torch.no_grad():
            assert torch.allclose(own(image), other(image), atol=1e-5)

    def test_features_are_numbers_of_the_same_names(self) -> None:
        rows = [architecture.shape_features() for architecture in self.architectures]
        assert all(row.keys() == rows[0].keys() for row in rows)
        assert all(isfinite(value) for row in rows for value in row.values())

    def test_units_have_texts_of_their_own(self) -> None:
        for architecture in self.architectures[:4]:
            units = set(describe(architecture).units)
            assert len({str(unit) for unit in units}) == len(units)

    def test_layers_have_names_of_their_own_in_a_supernet(self) -> None:
        for architecture in self.architectures[:4]:
            network = build_network(architecture, num_classes=self.num_classes)
            named = [id(layer) for layer in layers_of(network).values()]
            assert set(named) == {id(layer) for layer in network.modules() if isinstance(layer, LAYERS)}

    def test_a_search_network_derives_architectures_of_the_space(self) -> None:
        opened = self.space.open_network()
        if opened is None:
            pytest.skip("the family has no search network")
        network = SearchNetwork(opened, self.num_classes)
        held = {name: len(mixed[0].operations) for name, mixed in network.mixed.items() if mixed}
        assert held == {name: len(operations) for name, operations in opened.choices.items()}
        rng = random.Random(0)
        for _ in range(self.samples):
            weights = {
                name: [rng.random() for _ in operations] for name, operations in opened.choices.items()
            }
            derived = opened.derive(weights)
            assert self.space.contains(derived), derived
            assert opened.skips(derived) >= 0
        nothing = count(opened.only(), self.resolution, self.num_classes).params
        for name, operations in opened.choices.items():
            alone = count(opened.only(name, operations[-1]), self.resolution, self.num_classes)
            assert alone.params >= nothing

    def test_every_sampler_keeps_the_budget(self) -> None:
        """Half of what is drawn uniformly is within the budget; what was completed is counted again."""
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        drawn = [self.space.suggest(study.ask(), all_slots=True) for _ in range(31)]
        sizes = sorted(count(item, self.resolution, self.num_classes).params for item in drawn)
        start = count(self.space.parse(self.space.initial), self.resolution, self.num_classes)
        params = max(sizes[len(sizes) // 2], start.params)
        limits = Limits(Budget(params=params), self.resolution, self.num_classes)
        for name in self.samplers:
            study, states = self._search(name, params, trials=8)
            feasible = [
                trial
                for trial in study.trials
                if trial.state == TrialState.COMPLETE
                and limits.check(self.space.parse(trial.user_attrs["structure"])).is_feasible
            ]
            assert feasible, f"{name} found nothing within the budget: {states}"

    def _search(self, sampler: str, params: int, trials: int) -> tuple[optuna.Study, list[TrialState]]:
        options = dict(self.options)
        initial = options.pop("initial", None)
        spec = StudySpec.validated_data(
            {
                "name": "conformance",
                "space": {"name": self.name, "initial": initial, "options": options},
                "resolution": self.resolution,
                "num_classes": self.num_classes,
                "budget": {"params": params},
                "proxy": {"name": "macs"},
                "sampler": {"name": sampler, "screening": "off", "surrogate": {"candidates": 100}},
            }
        )
        storage = open_storage("memory:")
        spec = join_study(spec, storage, sampler, "cpu")
        study = load_study(storage, sampler, make_sampler(spec))
        objective = Objective(spec, study)
        return study, [state for _ in range(trials) if (state := run_trial(study, objective)) is not None]

    def test_a_bundle_of_it_trains(self, tmp_path: Path) -> None:
        from zenopt.train.data import synthetic
        from zenopt.train.distributed import World
        from zenopt.train.engine import fit
        from zenopt.train.networks import NetworkSource
        from zenopt.train.recipe import load_recipe

        architecture = self.architectures[-1]
        bundle = Bundle(str(architecture), self.resolution, self.num_classes, family=architecture.family)
        source = NetworkSource.from_bundle(read_bundle(write_bundle(bundle, tmp_path / "bundle")))
        data = synthetic("synthetic", "64", classes=self.num_classes, side=self.resolution)
        result = fit(
            source.build(self.num_classes),
            data,
            load_recipe("basic", ["batch_size=32"], epochs=1),
            output=tmp_path / "run",
            resolution=self.resolution,
            identity=source.facts(),
            world=World(0, 1, torch.device("cpu")),
        )
        assert 0.0 <= result.history[-1]["top1"] <= 100.0

    def test_text_that_is_none_is_one_line(self) -> None:
        with pytest.raises(ValueError) as caught:
            self.space.parse("?")
        assert str(caught.value) and "\n" not in str(caught.value)
