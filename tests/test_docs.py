"""The documentation is true: links resolve, commands exist, generated pages are current, code runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from zenopt.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]

#: What a page's code takes for granted, run before its first block.
PREAMBLES = {
    "docs/proxies.md": """
import torch, torchvision
from torch import nn
from zenopt import Architecture
architecture = Architecture.parse("SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)")
images, labels = torch.randint(0, 256, (200, 3, 8, 8), dtype=torch.uint8), [index % 4 for index in range(200)]
dataset = [(image / 255.0, label) for image, label in zip(images, labels)]
network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(8, 4))
""",
    "docs/closed_form.md": """
import random
from zenopt import Architecture, Budget, count
from zenopt.spaces.chain.superres import SuperResSpace
space, rng = SuperResSpace(), random.Random(0)
architecture = space.parse(space.initial)
architectures = parents = [found for _ in range(20) if (found := space.mutate(architecture, rng))]
already_measured = {str(architecture)}
latency_ms = lambda candidate: 1e-9 * count(candidate, 32, 100).macs
""",
    # Random weights stand for the published ones.
    "docs/training.md": """
import torch
import zenopt.spaces.chain.zoo
torch.save(zenopt.spaces.chain.zoo.create("zennet_imagenet1k_latency01ms").state_dict(), "latency01ms.pth")
""",
}

#: What takes minutes is cut short.
SHORTER = {"iterations=100_000": "iterations=2_000"}


def blocks(path: Path, *languages: str) -> list[str]:
    """Return the fenced code blocks of a page, indentation removed."""
    found, current, indent = [], None, 0
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"( *)```(\S*)", line)
        if fence and current is None:
            current, indent = ([] if fence[2] in languages else [None]), len(fence[1])
        elif fence and current is not None:
            if current != [None]:
                found.append("\n".join(current))
            current = None
        elif current is not None and current != [None]:
            current.append(line[indent:])
    return found


def prose(path: Path) -> str:
    """Return a page without its code."""
    text = re.sub(r"^( *)```.*?^\1```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_every_page_is_in_the_index() -> None:
    """The site's own check of this needs sphinx; this one does not."""
    index = (DOCS / "index.md").read_text()
    patterns = [
        line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.split()
    ]
    listed = {
        path for pattern in patterns if not pattern.startswith(":") for path in DOCS.glob(f"{pattern}.md")
    }
    assert listed == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


def test_generated_pages_are_up_to_date() -> None:
    specification = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert specification is not None and specification.loader is not None
    generate = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generate)
    for name, make in generate.PAGES.items():
        assert (DOCS / "reference" / name).read_text() == make(), "run: python docs/generate.py"


def commands(path: Path) -> list[str]:
    """Return the `zenopt ...` command lines of a page, continuation lines joined, comments dropped."""
    text = "\n".join(blocks(path, "bash", "text", "sh", "")) + "\n"
    text += "\n".join(re.findall(r"^    (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)) + "\n"
    text += "\n".join(re.findall(r"`(zenopt [^`]*)`", path.read_text(encoding="utf-8")))
    text = text.replace("\\\n", " ")
    found = re.findall(r"^(?:\S+=\S+ )?(zenopt [a-z].*)$", text, flags=re.MULTILINE)
    bare = [re.split(r"\s#", line)[0] for line in found]
    return [part.strip() for line in bare for part in re.split(r"&&|\s\|\s", line) if part.strip()]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_commands_and_their_options_exist(path: Path) -> None:
    wrong = []
    for line in commands(path):
        words = shlex.split(line, comments=True)
        if words[0] != "zenopt" or len(words) < 2 or words[1] in ("...", "[OPTIONS]"):
            continue
        command = cli.get_command(click.Context(cli), words[1]) if words[1] in COMMANDS else None
        if command is None:
            wrong.append(line)
            continue
        rest = words[2:]
        if isinstance(command, click.Group) and rest:
            inner = command.get_command(click.Context(command), rest[0])
            if inner is None:
                wrong.append(line)
                continue
            command = inner
        known = {"--help", "-h"} | {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        # A value that begins with a dash is none of ours.
        options = [re.split(r"[=/|]", word)[0] for word in rest if re.fullmatch(r"--?[a-z][^ ]*", word)]
        wrong += [f"{option} in: {line}" for option in options if option not in known]
    assert not wrong


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_code_is_python(path: Path) -> None:
    for code in blocks(path, "python"):
        compile(code, str(path), "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in PAGES if blocks(path, "python")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_code_runs(path: Path, tmp_path: Path) -> None:
    """All blocks of a page, one after the other, as one program in a folder of its own."""
    name = str(path.relative_to(ROOT))
    program = tmp_path / "page.py"
    code = "\n\n".join([PREAMBLES.get(name, ""), *blocks(path, "python")])
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    program.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "trees"), str(DOCS),
         str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "first-search.html", "faq.html"} <= {page.name for page in pages}
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(https?:)?//|<link[^>]*\shref=\"(https?:)?//"
    )
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page
    for style in (tmp_path / "site").rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert "fonts.googleapis" not in text
        assert not re.search(r"url\(['\"]?(https?:)?//|@import\s+['\"]?(https?:)?//", text), style


def test_environment_variables_are_documented() -> None:
    page = (DOCS / "reference" / "environment.md").read_text()
    sources = [path for folder in ("zenopt", "train") for path in (ROOT / folder).rglob("*.py")]
    named = {
        name
        for path in sources
        for name in re.findall(r"\b_?ZENOPT_[A-Z]+\b", path.read_text(encoding="utf-8"))
    }
    assert named and {name for name in named if f"`{name}`" not in page} == set()
