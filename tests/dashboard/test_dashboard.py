"""The dashboard against the real server, and in a real browser."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from zenopt.export.bundle import Bundle, write_bundle
from zenopt.storage.tables import engine_of

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (the extra 'dashboard')")

from zenopt.dashboard.server import Dashboard, DashboardError, _pack


def get(server: Dashboard, path: str) -> bytes:
    with urllib.request.urlopen(server.address + path, timeout=300) as answer:
        return answer.read()


@pytest.fixture(scope="module")
def server(
    study: optuna.Study,
    latency_study: optuna.Study,
    multi_study: optuna.Study,
    url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("bundle") / "best"
    best = study.best_trial
    write_bundle(
        Bundle(best.user_attrs["structure"], 32, 100, study="cifar", trial=best.number, costs={"params": 1}),
        folder,
    )
    with Dashboard(url, 0, bundles=[folder]) as running:
        running.update()
        yield running


def detail_of(server: Dashboard, name: str) -> dict[str, Any]:
    summaries = json.loads(get(server, "api/studies"))["study_summaries"]
    study_id = next(found["study_id"] for found in summaries if found["study_name"] == name)
    return {"study_id": study_id, **json.loads(get(server, f"api/studies/{study_id}"))}


@pytest.fixture(scope="module")
def detail(server: Dashboard) -> dict[str, Any]:
    return detail_of(server, "cifar")


def test_several_objectives(server: Dashboard, multi_study: optuna.Study) -> None:
    detail = detail_of(server, "multi")
    assert detail["objective_names"] == ["score (zen)", "latency_ms", "params"]
    front = {trial.number for trial in multi_study.best_trials}
    assert {trial["number"] for trial in detail["best_trials"]} == front
    note = detail["note"]["body"]
    assert "Pareto front of score ↑, latency_ms ↓, params ↓" in note
    listed = {int(line.split("|")[1]) for line in note.splitlines() if line[:3].strip("| ").isdigit()}
    assert listed and listed <= front
    graphs = {graph["id"] for graph in detail["plotly_graph_objects"]}
    assert {"best-network", "front-score-latency-ms", "front-score-params", "hypervolume-trials"} <= graphs


def test_serves_on_this_machine_only(server: Dashboard) -> None:
    assert server.address.startswith("http://127.0.0.1:")
    assert server._server.server_address[0] == "127.0.0.1"


def test_trials_read_well(detail: dict[str, Any], study: optuna.Study) -> None:
    assert len(detail["trials"]) == 300
    assert detail["best_trials"][0]["number"] == study.best_trial.number
    assert detail["objective_names"] == ["score (zen)"]
    attributes = {found["key"] for found in detail["union_user_attrs"]}
    assert {"structure", "params", "macs", "constraint:params", "closed_form"} <= attributes
    assert all(len(trial["constraints"]) == 2 for trial in detail["trials"])


def test_the_note_shows_the_best_network(
    server: Dashboard, detail: dict[str, Any], study: optuna.Study
) -> None:
    note = detail["note"]["body"]
    assert study.best_trial.user_attrs["structure"] in note
    picture = note.split("](/")[1].split(")")[0]
    assert get(server, picture).startswith(b"<svg")


def test_figures_are_custom_graphs(detail: dict[str, Any]) -> None:
    graphs = {graph["id"]: json.loads(graph["graph_object"]) for graph in detail["plotly_graph_objects"]}
    assert {
        "best-network",
        "score-params",
        "score-macs",
        "closed-form",
        "stage-width",
        "stage-kernel",
    } <= set(graphs)
    assert graphs["best-network"]["layout"]["images"][0]["source"].startswith("data:image/svg+xml")


def test_figures_take_the_size_of_their_card(detail: dict[str, Any]) -> None:
    """A figure that is larger than its card is cut off by it."""
    for graph in detail["plotly_graph_objects"]:
        layout = json.loads(graph["graph_object"])["layout"]
        assert "height" not in layout and "width" not in layout, graph["id"]
    picture = next(graph for graph in detail["plotly_graph_objects"] if graph["id"] == "best-network")
    (image,) = json.loads(picture["graph_object"])["layout"]["images"]
    assert (image["sizing"], image["sizex"], image["sizey"]) == ("contain", 1, 1)


def test_constraints_have_names(detail: dict[str, Any]) -> None:
    assert (
        "Constraints, in the order of a trial's list (kept where not above 0): params, layers."
        in detail["note"]["body"]
    )
    first = detail["trials"][0]["user_attrs"][:2]
    assert [found["key"] for found in first] == ["constraint:params", "constraint:layers"]
    assert [float(found["value"]) for found in first] == detail["trials"][0]["constraints"]


def test_trainings_are_shown(trained_study: optuna.Study) -> None:
    engine = engine_of(trained_study._storage)
    assert engine is not None
    with Dashboard(str(engine.url), 0) as server:
        server.update()
        search, linked = detail_of(server, "small"), detail_of(server, "small-trained")
        graphs = {graph["id"] for graph in search["plotly_graph_objects"]}
        assert {"winner-network", "best-network", "trained-curves", "trained-score"} <= graphs
        assert (
            "## Winner of the second stage" in search["note"]["body"]
            and "| class 0 | 60.50 |" in search["note"]["body"]
        )
        # Learning curves are the dashboard's own, of intermediate values.
        assert linked["has_intermediate_values"]
        curves = [trial["intermediate_values"] for trial in linked["trials"]]
        assert all(curves) and max(len(curve) for curve in curves) == 3
        assert linked["objective_names"] == ["accuracy, %"]
        assert "second stage of study small" in linked["note"]["body"]
        # Without parameters the dashboard's importances divide by zero.
        assert {param["name"] for param in linked["trials"][0]["params"]} == {
            "learning_rate",
            "training_seed",
        }
        assert json.loads(get(server, f"api/studies/{linked['study_id']}/param_importances"))


def test_bundles_are_artifacts(server: Dashboard, detail: dict[str, Any]) -> None:
    found = {artifact["filename"]: artifact["artifact_id"] for artifact in detail["artifacts"]}
    bundle = next(name for name in found if name.startswith("bundle-trial-"))
    assert get(server, f"artifacts/{detail['study_id']}/{found[bundle]}").startswith(b"PK")


def test_a_persons_note_stays(server: Dashboard, url: str, latency_study: optuna.Study) -> None:
    from optuna_dashboard import get_note, save_note

    server.update()
    shown = optuna.load_study(study_name=latency_study.study_name, storage=server.mirror)
    save_note(shown, "mine")
    page = next(page for page in server._pages.values() if page._shown.study_name == shown.study_name)
    page._best = -1
    server.update()
    assert get_note(shown) == "mine"


def test_a_taken_port_is_one_line(server: Dashboard, url: str) -> None:
    with pytest.raises(DashboardError, match="--port") as caught:
        Dashboard(url, server._server.server_port)
    assert "\n" not in str(caught.value)


def test_a_bundles_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "own.txt").write_text("theirs")
    (tmp_path / "bundle" / "best.pt").symlink_to(tmp_path / "secret")
    _pack(tmp_path / "bundle", tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as packed:
        assert packed.namelist() == ["own.txt"]


def test_a_bundle_of_another_storage(study: optuna.Study, url: str, tmp_path: Path) -> None:
    structure = study.best_trial.user_attrs["structure"]
    write_bundle(Bundle(structure, 32, 100, study="elsewhere", trial=1), tmp_path / "bundle")
    with pytest.raises(DashboardError, match="elsewhere"):
        Dashboard(url, 0, bundles=[tmp_path / "bundle"])


def test_without_the_package(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(DashboardError, match=r"pip install 'zenopt\[dashboard\]'"):
        Dashboard(url, 0)


def test_in_a_browser(server: Dashboard, detail: dict[str, Any], study: optuna.Study, chromium: Path) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        result = subprocess.run(
            [
                str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-dev-shm-usage", "--virtual-time-budget=20000", "--dump-dom",
                f"--user-data-dir={profile}", f"{server.address}dashboard/studies/{detail['study_id']}/note",
            ],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert f"Best network: trial {study.best_trial.number}" in result.stdout
    assert study.best_trial.user_attrs["structure"] in result.stdout
    assert "/artifacts/" in result.stdout
