"""Scoring many architectures by many proxies on one minibatch, with a cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from zenopt.core.description import describe
from zenopt.core.errors import ProxyError
from zenopt.core.progress import SILENT, Progress
from zenopt.core.score import Score
from zenopt.core.seeds import derive_seed
from zenopt.correlate.batch import Minibatch
from zenopt.correlate.score_cache import ScoreCache
from zenopt.nn import build_network
from zenopt.proxies import evaluate, get_proxy, score_architecture
from zenopt.proxies.devices import resolve_device
from zenopt.proxies.randomness import fresh_network, initialise, make_generator
from zenopt.proxies.registry import Proxy

#: Scores by proxy, then by architecture text.
Scores = Mapping[str, Mapping[str, Score]]


@dataclass(frozen=True)
class Measurement:
    """How architectures are scored.

    Attributes:
        batch: The minibatch all are scored on.
        num_classes: Outputs of the networks.
        seed: Together with an architecture's text it fixes the weights: a score does not depend on what else is scored.
        build: Which release's network of an architecture, where its family has several.
        gamma: Size of the input perturbation (Zen-scores).
        device: Where to compute.
    """

    batch: Minibatch
    num_classes: int
    seed: int = 0
    build: str = "official"
    gamma: float = 0.01
    device: str = "cpu"

    def identity(self) -> dict[str, Any]:
        """Return what the scores depend on, besides proxy and architecture."""
        return {
            "batch": self.batch.fingerprint(),
            "shape": list(self.batch.inputs.shape),
            "num_classes": self.num_classes,
            "seed": self.seed,
            "build": self.build,
            "gamma": self.gamma,
            # Random streams differ between kinds of device.
            "device": self.device.partition(":")[0],
        }

    def score(self, architecture: Any, proxies: Sequence[str]) -> dict[str, Score]:
        """Score one architecture; proxies that read the same passes share them."""
        found = [get_proxy(name) for name in proxies]
        seed = derive_seed(self.seed, 0, str(architecture))
        scores: dict[str, Score] = {}
        by_links: dict[bool, list[Proxy]] = {}
        for proxy in found:
            if proxy.kind == "architecture" or proxy.on_architecture is not None:
                scores[proxy.name] = self._score_architecture(architecture, proxy, seed)
            else:
                # Some families cannot be had without their links.
                links = proxy.residual or not describe(architecture).has_links
                by_links.setdefault(links, []).append(proxy)
        for links, group in by_links.items():
            results = evaluate(
                self._network(architecture, links, seed),
                self.batch.inputs,
                self.batch.targets,
                group,
                device=self.device,
                seed=seed,
                gamma=self.gamma,
            )
            scores.update(results)
        return scores

    def _score_architecture(self, architecture: Any, proxy: Proxy, seed: int) -> Score:
        try:
            return score_architecture(
                architecture,
                proxy,
                resolution=self.batch.inputs.shape[-1],
                num_classes=self.num_classes,
                batch_size=len(self.batch.inputs),
                gamma=self.gamma,
                seed=seed,
                device=self.device,
            )
        except ProxyError as error:
            return Score(None, 0.0, str(error), proxy.name)

    def _network(self, architecture: Any, links: bool, seed: int) -> torch.nn.Module:
        generator = make_generator(seed, 0, resolve_device(self.device))
        if self.build != "official":
            network = build_network(architecture, num_classes=self.num_classes, build=self.build)
            network = network.to(generator.device)
            initialise(network, "pytorch", generator)
            return network.train()
        return fresh_network(
            architecture, generator, num_classes=self.num_classes, use_se=False, residual=links
        )


#: Calls a function with every item, in any order, and yields position and result, as an executor's ``map``.
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[int, Any]]]


def one_by_one(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Call a function with every item, here."""
    for index, item in enumerate(items):
        yield index, function(item)


def measure(
    architectures: Iterable[Any],
    proxies: Sequence[str],
    settings: Measurement,
    cache: ScoreCache | None = None,
    progress: Progress = SILENT,
    spread: Spread = one_by_one,
) -> Scores:
    """Score architectures; what the cache holds is not computed again.

    Args:
        architectures:
            What to score.
        proxies:
            Names of proxies.
        settings:
            How.
        cache:
            Where scores are kept; every architecture is stored as soon as it is scored.
        progress:
            Is told of every architecture.
        spread:
            Where they are scored: here, or by the workers of an executor.

    Returns:
        The scores; a proxy that failed on an architecture has one without a value.

    Raises:
        UnknownNameError: If a proxy does not exist.
        DeviceError: If the device does not exist.
        StorageError: If the cache cannot be written.
    """
    versions = {found.name: found.version for found in map(get_proxy, dict.fromkeys(proxies))}
    names = list(versions)
    cache = ScoreCache(None) if cache is None else cache
    identities = {
        version: {**settings.identity(), **({"version": version} if version else {})}
        for version in set(versions.values())
    }
    scores = {name: cache.get(identities[version], name) for name, version in versions.items()}
    targets = list(architectures)
    failed = 0
    progress.start(len(targets), "architecture")
    texts = [str(architecture) for architecture in targets]
    missing = {
        text: (architecture, [name for name in names if text not in scores[name]])
        for text, architecture in zip(texts, targets, strict=True)
    }
    todo = [item for item in missing.values() if item[1]]
    repeats = Counter(texts)

    def advance(text: str) -> None:
        nonlocal failed
        failed += repeats[text] * sum(scores[name][text].value is None for name in names)
        progress.advance(repeats[text], failed=failed or None)

    for text, (_, lacking) in missing.items():
        if not lacking:
            advance(text)
    for index, found in spread(partial(_score, settings, torch.get_num_threads()), todo):
        text = str(todo[index][0])
        for version, identity in identities.items():
            own = {name: score for name, score in found.items() if versions[name] == version}
            if own:
                cache.put(identity, text, own)
        for name, score in found.items():
            scores[name][text] = score
        advance(text)
    return {name: {text: scores[name][text] for text in texts} for name in names}


def _score(settings: Measurement, threads: int, item: tuple[Any, Sequence[str]]) -> dict[str, Score]:
    torch.set_num_threads(threads)
    return settings.score(*item)
