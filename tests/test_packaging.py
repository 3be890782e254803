"""What is published is complete: the wheel and the source distribution, and the wheel at work outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("zenopt",)
SOURCES = (*PACKAGES, "train", "studies", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def files_of_packages() -> set[str]:
    """Returns every file of the packages in the checkout, those behind the link to the presets included."""
    found = set()
    for package in PACKAGES:
        for folder, folders, names in os.walk(ROOT / package, followlinks=True):
            folders[:] = [name for name in folders if name != "__pycache__"]
            found |= {(Path(folder) / name).relative_to(ROOT).as_posix() for name in names}
    return found


def run(*arguments: str | Path, cwd: Path) -> str:
    # What the checkout has on its path must not stand in for what the wheel forgot.
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built from a copy of the checkout."""
    for package in ("build", "wheel", "setuptools"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    # The wheel is made from the source distribution, so that what one lacks the other lacks too.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source, cwd=folder)
    return folder / "dist"


@pytest.mark.slow
def test_nothing_is_missing_from_wheel_and_sdist(built: Path) -> None:
    wanted = files_of_packages()
    assert {"zenopt/studies/demo.yaml", "zenopt/train/recipes/basic.yaml", "zenopt/py.typed"} <= wanted
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    assert wanted - packed == set()
    assert {name for name in packed if not name.split("/")[0].endswith(".dist-info")} == wanted
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted - sources == set()
    assert {"LICENSE", "README.md", "setup.cfg", "pyproject.toml"} <= sources


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, which borrows what zenopt depends on from the one that runs the tests."""
    environment = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    # Path files inside a folder that is added this way are not followed: the editable install stays out.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--force-reinstall",
        next(built.glob("*.whl")), cwd=tmp_path,
    )  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(
        python,
        "-c",
        "import zenopt, zenopt.train; print(zenopt.__file__, zenopt.train.__file__)",
        cwd=elsewhere,
    )
    assert where.count(str(packages)) == 2
    zenopt = environment / "bin" / "zenopt"
    assert "cifar-params1m" in run(zenopt, "studies", cwd=elsewhere)
    assert "v100-fp16-b64" in run(zenopt, "latency", "devices", cwd=elsewhere)
    run(
        zenopt, "optimize", "--study", "demo", "--trials", "2", "--workers", "1", "--set", "budget.params=1e5",
        "--set", "proxy.batch_size=2", "--set", "sampler.screening_candidates=20", cwd=elsewhere,
    )  # fmt: skip
    run(zenopt, "report", "--study", "demo", cwd=elsewhere)
    assert (elsewhere / "report.html").stat().st_size > 100_000
    run(zenopt, "export-best", "--study", "demo", "--output", "bundle", "--repeats", "1", cwd=elsewhere)
    assert "zennas-cifar" in run(
        python, "-c", "from zenopt.train.recipe import load_recipe as r; r('zennas-cifar'); print('zennas-cifar')",
        cwd=elsewhere,
    )  # fmt: skip
    network = run(python, "-c",
        "from zenopt.latency.predict import predict_latency_ms as p; from zenopt.latency.profile import load_profile;"
        "from zenopt.spaces.chain.zoo import card; from zenopt import Architecture;"
        "print(p(Architecture.parse(card('zennet_imagenet1k_latency01ms').structure),"
        "load_profile('v100-fp16-b64-tensorrt'), 224, 1000, False))", cwd=elsewhere)  # fmt: skip
    assert float(network) > 0


def test_the_version_is_the_same_everywhere() -> None:
    import yaml

    import zenopt

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == zenopt.__version__
    assert f"## {zenopt.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert "attr: zenopt._version.__version__" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_forms_are_whole(name: str) -> None:
    import yaml

    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert form.keys() >= {"name", "description", "body"}
    identifiers = [item["id"] for item in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    for item in form["body"]:
        assert item["attributes"]["label"]
