"""``zenopt components``: what studies can name, and where each comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import zenopt as package
from zenopt.study.components import KINDS, list_components
from zenopt.study.registries import EVALUATORS, PRUNERS

#: A package as pip installs one: a sampler, blocks, and a proxy that cannot be loaded.
THEIRS = {
    "theirs.py": '"""Things of theirs."""\nimport optuna\nclass Sampler(optuna.samplers.RandomSampler):\n    """x"""\n',
    "their_blocks.py": """
from dataclasses import dataclass
from zenopt.core.primitives import Relu, conv_norm
from zenopt.spaces.chain.architecture import ResidualBlock, register_block

@register_block("TheirK{kernel}", kernel=(3,))
@dataclass(frozen=True)
class Their(ResidualBlock):
    \"\"\"A plain block of theirs.\"\"\"

    kernel: int

    def expand(self):
        return (*conv_norm(self.in_channels, self.out_channels, self.kernel, self.stride), Relu(self.out_channels))
""",
    "their_networks-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: their-networks\nVersion: 1.0\n",
    "their_networks-1.0.dist-info/entry_points.txt": "[zenopt.samplers]\ntheirs = theirs:Sampler\n"
    "[zenopt.blocks]\ntheirs = their_blocks\n[zenopt.proxies]\nbroken = no_such_module:proxy\n",
}
#: A module of one's own.
MINE = '''
from zenopt.proxies import register_proxy
from zenopt.spaces import register_space
from zenopt.spaces.chain.superres import SuperResSpace

@register_proxy("mine")
def mine(probe):
    """Count what I like to count."""
    return 1.0

@register_space("my-space")
class MySpace(SuperResSpace):
    """Chains, as I like them."""
'''


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command beside such a package and module."""
    for name, text in THEIRS.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "mine.py").write_text(MINE)
    paths = [str(tmp_path / "site"), str(Path(package.__file__).parents[1])]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zenopt", "components", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
        )

    return run


def test_everything_says_where_it_comes_from(listed: Callable) -> None:
    done = listed("--import", "mine.py", "--json")
    assert done.returncode == 0, done.stderr
    found = {(item["kind"], item["name"]): item for item in json.loads(done.stdout)}
    assert {kind for kind, _ in found} == set(KINDS)

    def origin(kind: str, name: str) -> tuple[str, str, str]:
        item = found[kind, name]
        return item["from"], item["package"], item["module"]

    assert origin("sampler", "zen") == ("built in", "zenopt", "zenopt.study.sampling")
    assert origin("sampler", "tpe") == ("built in", "optuna", "optuna.samplers")
    assert origin("sampler", "theirs") == ("entry point", "their-networks", "theirs")
    assert origin("block", "TheirK3") == ("entry point", "their-networks", "their_blocks")
    assert found["block", "TheirK3"]["description"] == "A plain block of theirs"
    assert origin("proxy", "mine") == ("import", "mine", "mine")
    assert found["space", "my-space"]["description"] == "Chains, as I like them"
    # Its networks are those of the family it comes of.
    assert "my-space" in found["family", "chain"]["description"]
    # A package that does not load hides nothing else.
    assert origin("proxy", "broken") == ("entry point", "their-networks", "no_such_module")
    assert "cannot be loaded" in found["proxy", "broken"]["description"]
    assert found["proxy", "zen"]["description"].startswith("Measured Zen-score")


def test_kinds_and_texts(listed: Callable) -> None:
    done = listed("--kind", "sampler", "--kind", "block")
    lines = done.stdout.splitlines()
    assert any(line.split()[:3] == ["theirs", "package", "their-networks"] for line in lines)
    assert sum(line.startswith(("sampler ", "block ")) for line in lines) == 2


def test_an_unknown_kind_is_one_line(zenopt: Callable) -> None:
    done = zenopt("components", "--kind", "samplers")
    assert done.code == 2 and "kinds are family, space, block" in done.err and not done.out


def test_every_registered_name_is_listed_with_words() -> None:
    found = list_components()
    assert len({(item.kind, item.name) for item in found}) == len(found)
    names = {kind: {item.name for item in found if item.kind == kind} for kind in KINDS}
    assert names["evaluator"] >= set(EVALUATORS.names()) and names["pruner"] >= set(PRUNERS.names())
    assert names["space"] >= set(package.list_spaces()) and names["preset"] == set(package.list_presets())
    assert names["proxy"] >= set(package.list_proxies())
    silent = [
        f"{item.kind} {item.name}"
        for item in found
        # Other tests register things of their own.
        if item.origin.how == "built in" and not item.description and item.kind != "latency-term"
    ]
    assert silent == []
    assert package.list_components("space") == [item for item in found if item.kind == "space"]
