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
#: Folders beside the package that belong into it, and what they are called there.
LINKED = {"train": "zenopt/train", "studies": "zenopt/studies"}
SOURCES = (
    "zenopt",
    *LINKED,
    "setup.cfg",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def files_of_package() -> set[str]:
    """Return every file of the package as it is installed, those behind the links included."""
    found = set()
    for folder, folders, names in os.walk(ROOT / "zenopt", followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {(Path(folder) / name).relative_to(ROOT).as_posix() for name in names}
    return found


def copy_of_checkout(folder: Path, *, has_links: bool = True) -> Path:
    """Copy the sources; without links as git for Windows makes them: files that hold the path."""
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    for name in LINKED.values() if not has_links else ():
        (folder / name).unlink()
        (folder / name).write_text(f"../{Path(name).name}")
    return folder


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


def build(folder: Path, *, has_links: bool) -> Path:
    """Build the source distribution, and the wheel from it, so that what one lacks the other lacks too."""
    for package in ("build", "wheel", "setuptools"):
        pytest.importorskip(package)
    source = copy_of_checkout(folder / "source", has_links=has_links)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source, cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built from a copy of the checkout."""
    return build(tmp_path_factory.mktemp("packaging"), has_links=True)


def environment_of(folder: Path) -> tuple[Path, Path]:
    """Return interpreter and package folder of a new environment that borrows what zenopt depends on."""
    environment = folder / "env"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    python = environment / "bin" / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # Path files inside a folder that is added this way are not followed: the editable install stays out.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python, packages


@pytest.mark.slow
@pytest.mark.parametrize("has_links", [True, False], ids=["links", "text files"])
def test_nothing_is_missing_from_wheel_and_sdist(
    has_links: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dist = request.getfixturevalue("built") if has_links else build(tmp_path, has_links=False)
    wanted = files_of_package()
    assert {"zenopt/studies/demo.yaml", "zenopt/train/recipes/basic.yaml", "zenopt/py.typed"} <= wanted
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    assert {name for name in packed if not name.split("/")[0].endswith(".dist-info")} == wanted
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    linked = {inside: outside for outside, inside in LINKED.items()}
    assert {_source_of(name, linked) for name in wanted} - sources == set()
    assert {"LICENSE", "README.md", "setup.cfg", "setup.py", "pyproject.toml"} <= sources


def _source_of(name: str, linked: dict[str, str]) -> str:
    for inside, outside in linked.items():
        if name.startswith(f"{inside}/"):
            return outside + name.removeprefix(inside)
    return name


@pytest.mark.slow
@pytest.mark.parametrize("has_links", [True, False], ids=["links", "text files"])
def test_an_editable_install_knows_trainer_and_presets(has_links: bool, tmp_path: Path) -> None:
    for package in ("wheel", "setuptools"):
        pytest.importorskip(package)
    python, _ = environment_of(tmp_path)
    source = copy_of_checkout(tmp_path / "source", has_links=has_links)
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--force-reinstall",
        "--no-build-isolation", "--editable", source, cwd=tmp_path,
    )  # fmt: skip
    where = "import zenopt, zenopt.train.recipe as r; print(zenopt.__file__); print(len(r.list_recipes()))"
    file, recipes = run(python, "-c", where, cwd=tmp_path).splitlines()
    assert Path(file).is_relative_to(source) and int(recipes) > 5
    assert "cifar-params1m" in run(python, "-m", "zenopt", "studies", cwd=tmp_path)


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, which borrows what zenopt depends on from the one that runs the tests."""
    python, packages = environment_of(tmp_path)
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
    zenopt = python.with_name("zenopt")
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
