"""Whatever stands in a file, reading it gives what the format says or one short line, never another error."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structures import TINY_NARROW
from training import write_cifar

from zenopt.core.errors import ZenoptError
from zenopt.core.tables import load_table
from zenopt.core.yamlfile import read_yaml
from zenopt.export.bundle import Bundle, read_bundle, write_bundle
from zenopt.export.names import resolve
from zenopt.latency.csvfit import read_rows
from zenopt.latency.predict import predict
from zenopt.latency.profile import DEVICES_FOLDER, load_profile
from zenopt.nn import build_network
from zenopt.nn.weights import load_weights
from zenopt.predictors.learned import LearnedScore, fit_learned, read_learned
from zenopt.proxies import ScoreSettings
from zenopt.spaces.chain.architecture import Architecture
from zenopt.study.spec import StudySpec
from zenopt.study.targets import find_target
from zenopt.train import checkpoint
from zenopt.train.data import open_data
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import Recipe, load_recipe

TINY = TINY_NARROW
ARCHITECTURE = Architecture.parse(TINY)
LONGEST = 400

#: What stands where something else belongs.
HOSTILE: list[Any] = [
    None, True, 0, -1, 3, 2**31, 2**63, 10**18, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x",
    "\x1b[2J", "\ud800", "y" * 5000, "0" * 400, "../../x", "os:system", [], {}, [[]], [1, 2], ["a"] * 300, {"a": 1},
    {"": None},
]  # fmt: skip


def nested(depth: int) -> Any:
    """Return lists within each other."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


values = st.one_of(
    # Copied, for what is drawn may be changed again.
    st.sampled_from(HOSTILE).map(copy.deepcopy),
    st.builds(nested, st.sampled_from([20, 40, 400])),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)


@st.composite
def changed(draw: st.DrawFn, content: Any, count: int = 3) -> Any:
    """Plain data in which a few values are others, or gone, or new."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, count))):
        place = content
        for _ in range(draw(st.integers(0, 5))):
            inner = list(place.values()) if isinstance(place, dict) else place
            inner = [item for item in inner if isinstance(item, dict | list) and item]
            if not inner:
                break
            place = draw(st.sampled_from(inner))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        key = draw(st.sampled_from(keys)) if keys else None
        if action == "add" or key is None:
            if isinstance(place, dict):
                place[draw(st.text(max_size=5))] = draw(values)
            else:
                place.append(draw(values))
        elif action == "remove":
            del place[key]
        else:
            place[key] = draw(values)
    return content


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that are cut, filled or overwritten at some places."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(found)))
        action = draw(st.sampled_from(["overwrite", "overwrite", "cut", "insert", "repeat"]))
        if action == "overwrite":
            new = draw(st.binary(min_size=1, max_size=6))
            found[at : at + len(new)] = new
        elif action == "cut":
            del found[at : at + draw(st.sampled_from([1, 8, 100, len(found)]))]
        elif action == "insert":
            found[at:at] = draw(st.binary(max_size=20))
        else:
            found[at:at] = found[at : at + 50] * draw(st.integers(1, 20))
    return bytes(found)


def examples(count: int) -> Any:
    """Settings of a fuzz test; the file it writes is the same at every example."""
    return settings(
        max_examples=count, deadline=None, derandomize=count < 1000, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def reads_or_explains(read: Callable[[], Any]) -> None:
    try:
        with warnings.catch_warnings():
            # E.g. a structure whose channels were re-threaded.
            warnings.simplefilter("ignore")
            read()
    except ZenoptError as error:
        text = str(error)
        assert text and text.isprintable() and len(text) < LONGEST, (len(text), text)


def both(name: str, quick: int, long: int) -> Any:
    """Run a test with few examples by default, with many where slow tests are run."""
    return pytest.mark.parametrize(
        "count", [pytest.param(quick, id="quick"), pytest.param(long, id="long", marks=pytest.mark.slow)]
    )


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode()


@both("bundle", 120, 4000)
def test_bundles(tmp_path: Path, count: int) -> None:
    write_bundle(
        Bundle(
            TINY, 16, 10, costs={"params": 3}, study="s", trial=3, spec={"a": [1]}, candidates=({"trial": 1},)
        ),
        tmp_path,
    )
    path = tmp_path / "architecture.json"
    valid = json.loads(path.read_text())

    def read() -> None:
        bundle = read_bundle(tmp_path)
        NetworkSource.from_bundle(bundle)
        resolve(str(tmp_path))

    @examples(count)
    @given(st.one_of(changed(valid).map(as_json), damaged(as_json(valid))))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(read)

    check()


@both("profile", 120, 4000)
@pytest.mark.parametrize("name", ["v100-fp16-b64", "v100-fp16-b64-eager", "t4-int8-b64", "table"])
def test_profiles(tmp_path: Path, count: int, name: str) -> None:
    if name == "table":
        valid = json.loads((DEVICES_FOLDER / "t4-int8-b64.json").read_text())
        coefficients = {"network": 0.1, "dense_gmacs": 1.0}
        valid["model"] = {
            "kind": "table", "blocks": {"a": 0.1}, "scale": 0.9, "visit_scatter": 0.1, "additive_scatter": 0.2,
            "coefficients": coefficients,
        }  # fmt: skip
        valid["environment"] = {"options": {"device": "cpu", "batch": 1}, "threads": 1}
    else:
        valid = json.loads((DEVICES_FOLDER / f"{name}.json").read_text())
    path = tmp_path / "p.json"

    def read() -> None:
        from zenopt.latency.fill import difference_from_here
        from zenopt.latency.guards import guard_violations

        profile = load_profile(path)
        prediction = predict(ARCHITECTURE, profile, 224, any_resolution=True)
        assert np.isfinite(prediction.latency_ms)
        json.dumps(prediction.latency_ms, allow_nan=False)
        difference_from_here(profile)
        guard_violations(ARCHITECTURE, profile, profile.resolutions[0], limit_ms=1.0)

    @examples(count)
    @given(st.one_of(changed(valid).map(as_json), damaged(as_json(valid))))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        load_profile.__globals__["_read"].cache_clear()
        reads_or_explains(read)

    check()


@both("learned", 100, 3000)
def test_learned_scores(tmp_path: Path, count: int) -> None:
    from zenopt.predictors.features import architecture_features

    features = architecture_features(ARCHITECTURE, 16, 10)
    model = fit_learned(
        {"params": [1.0, 2.0, None]},
        [1.0, 2.0, 3.0],
        [features] * 3,
        settings={"resolution": 16, "num_classes": 10, "batch_size": 2},
    )
    valid = model.to_json()
    path = tmp_path / "learned.json"

    def read() -> None:
        read_learned.cache_clear()
        found = read_learned(path, 0)
        assert isinstance(found, LearnedScore)
        with np.errstate(all="ignore"):
            found.score(
                ARCHITECTURE,
                ScoreSettings(16, 10, 2, 0.01, seed=0, repeat=0, device="cpu", residual=True, use_se=False),
            )

    @examples(count)
    @given(st.one_of(changed(valid).map(as_json), damaged(as_json(valid))))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(read)

    check()


INITIAL = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
)
SPEC = {
    "name": "tiny", "space": {
        "name": "superres", "options": {"stage_strides": [1, 2], "type_weights": {"SuperResK3K3": 2.0}},
        "initial": INITIAL, "bounds": "narrow", "narrow": {"slots": 2, "max_depth": 2, "max_width": 32},
    },
    "resolution": 16, "num_classes": 10, "budget": {"params": 3.0e4}, "classes": [{"convs": 10}],
    "latency": {"device": "t4-int8-b64", "guards": {"margin": 0.9}},
    "proxy": {"name": "zen", "batch_sizes": {"cpu": 4}},
    "sampler": {"name": "zen", "screening_candidates": 20}, "training": {"rates": [0.1, 0.2]}, "trials": 5,
}  # fmt: skip


@both("spec", 100, 3000)
def test_study_specs(tmp_path: Path, count: int) -> None:
    path = tmp_path / "s.yaml"
    valid = {**SPEC, "latency": None}
    text = yaml.safe_dump(SPEC, sort_keys=False).encode()

    def as_yaml(content: Any) -> bytes:
        # JSON is YAML, and writes what YAML's own writer would quote.
        return json.dumps(content).encode()

    @examples(count)
    @given(st.one_of(changed(valid).map(as_yaml), damaged(text), st.text(max_size=200).map(str.encode)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(lambda: StudySpec.load(path))

    StudySpec.validated(read_yaml_of(path, valid))
    check()


def read_yaml_of(path: Path, content: Any) -> Any:
    path.write_text(json.dumps(content))
    return read_yaml(path)


@both("recipe", 60, 2000)
def test_recipes(tmp_path: Path, count: int) -> None:
    path = tmp_path / "r.yaml"
    valid = Recipe().model_dump(mode="json")

    @examples(count)
    @given(st.one_of(changed(valid).map(as_json), damaged(as_json(valid))))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(lambda: load_recipe(str(path)))

    check()


@both("overrides", 150, 4000)
def test_overrides(count: int) -> None:
    spec = StudySpec.load("demo")
    paths = st.sampled_from(
        ["budget.params", "space.options.type_weights", "space.name", "trials.x", "classes"]
    )

    @examples(count)
    @given(st.one_of(st.text(max_size=60), st.tuples(paths, values).map(lambda pair: {pair[0]: pair[1]})))
    def check(overrides: Any) -> None:
        reads_or_explains(lambda: spec.overridden(overrides))
        if isinstance(overrides, dict):
            name, value = next(iter(overrides.items()))
            reads_or_explains(lambda: spec.overridden([f"{name}={value!r}" if value != 10**400 else name]))

    check()


@both("table", 120, 4000)
def test_tables(tmp_path: Path, count: int) -> None:

    valid = "structure,latency_ms,resolution,use_se\n" + f'"{TINY}",1.5,32,0\n' * 3
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"

    @examples(count)
    @given(st.one_of(damaged(valid.encode()), st.binary(max_size=100)), st.booleans())
    def check(content: bytes, is_packed: bool) -> None:
        import gzip

        path = packed if is_packed else plain
        path.write_bytes(
            content
            if is_packed and content[:1] < b"\x80"
            else gzip.compress(content)
            if is_packed
            else content
        )
        load_table.__globals__["_load"].cache_clear()
        reads_or_explains(lambda: load_table(path))
        if not is_packed:
            reads_or_explains(lambda: read_rows(path, find_target))

    check()


@both("gzip", 60, 2000)
def test_damaged_gzip(tmp_path: Path, count: int) -> None:
    import gzip

    path = tmp_path / "t.csv.gz"
    valid = gzip.compress(b"structure,acc\n" + b"x,1\n" * 500)

    @examples(count)
    @given(damaged(valid))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        load_table.__globals__["_load"].cache_clear()
        reads_or_explains(lambda: load_table(path))

    check()


def run_content() -> dict[str, Any]:
    """What ``last.pt`` of a run holds."""
    row = {
        "epoch": 1, "step": 2, "lr": 0.1, "train_loss": 1.0, "test_loss": 1.0, "top1": 10.0, "top5": 50.0,
        "images_per_second": 100.0, "seconds": 1.0,
    }  # fmt: skip
    network = build_network(ARCHITECTURE, num_classes=10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    state = {"epoch": 1, "step": 0, "loss_sum": 0.0, "seconds": 1.0, "history": [row], "best": row}
    return {
        "network": NetworkSource("structure", TINY, 16).facts(), "recipe": Recipe().model_dump(mode="json"),
        "classes": list("abcdefghij"), "statistics": "none", "seed": 0, "model": dict(network.state_dict()),
        "extras": {}, "optimizer": optimizer.state_dict(), "scaler": {}, "ema": None, "state": state,
    }  # fmt: skip


@both("checkpoint", 100, 3000)
def test_checkpoints(tmp_path: Path, count: int) -> None:
    path = tmp_path / "last.pt"
    valid = run_content()
    torch.save(valid, path)
    whole = path.read_bytes()
    network = build_network(ARCHITECTURE, num_classes=10)

    def read() -> None:
        content = checkpoint.read(path)
        if "network" in content:
            source = NetworkSource.from_facts(content["network"])
            Recipe.model_validate(content.get("recipe", {}))
            assert source.text
        load_weights(network, path)

    def read_run() -> None:
        saved = checkpoint.read(path, checkpoint.RUN)
        with checkpoint.restoring(path):
            network.load_state_dict(saved["model"])
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
            checkpoint.check_optimizer(saved["optimizer"], optimizer)
            optimizer.load_state_dict(saved["optimizer"])
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()

    def as_file(content: Any) -> bytes:
        torch.save(content, path)
        return path.read_bytes()

    @examples(count)
    @given(st.one_of(changed(valid).map(as_file), damaged(whole)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(read)
        reads_or_explains(read_run)

    check()


@both("safetensors", 100, 3000)
def test_safetensors(tmp_path: Path, count: int) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    network = build_network(ARCHITECTURE, num_classes=10)
    save_file(network.state_dict(), path)
    whole = path.read_bytes()

    @examples(count)
    @given(damaged(whole))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(lambda: load_weights(network, path))

    check()


@both("cifar", 100, 3000)
def test_cifar_batches(tmp_path: Path, count: int) -> None:
    write_cifar(tmp_path, ten=False)
    folder = tmp_path / "cifar-100-python"
    path, meta = folder / "train", folder / "meta"
    batch, names = pickle.loads(path.read_bytes()), pickle.loads(meta.read_bytes())
    whole = path.read_bytes()

    def as_pickle(content: Any) -> bytes:
        return pickle.dumps(content, protocol=2)

    @examples(count)
    @given(
        st.one_of(
            st.tuples(st.just(path), st.one_of(changed(batch).map(as_pickle), damaged(whole))),
            st.tuples(st.just(path), damaged(whole[:200])),
            st.tuples(st.just(meta), changed(names).map(as_pickle)),
        )
    )
    def check(change: tuple[Path, bytes]) -> None:
        before = change[0].read_bytes()
        change[0].write_bytes(change[1])
        reads_or_explains(lambda: open_data(f"cifar100:{tmp_path}"))
        change[0].write_bytes(before)

    check()


@both("structure", 150, 4000)
def test_structure_files_and_names(tmp_path: Path, count: int) -> None:
    path = tmp_path / "structure.txt"

    @examples(count)
    @given(st.one_of(damaged(TINY.encode()), st.binary(max_size=100)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reads_or_explains(lambda: resolve(str(path)))
        reads_or_explains(lambda: resolve(content.decode("utf-8", "surrogateescape")))

    check()
