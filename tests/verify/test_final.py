"""The second stage: what is trained, what wins, what is written, and what a second run does."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from PIL import Image

import zenopt
from zenopt.cli import main
from zenopt.core.errors import StudyError
from zenopt.export.bundle import read_bundle
from zenopt.nn.weights import read_torch_file
from zenopt.storage import open_storage
from zenopt.study.evaluators.train import LABEL_KEY, LEARNING_RATE_KEY, SEED_KEY
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study, open_existing, read_spec
from zenopt.train.data import DataSet, MemoryImages
from zenopt.verify import final
from zenopt.verify.candidates import class_candidates
from zenopt.verify.final import read_winner, run_second_stage
from zenopt.verify.linked import Candidate, Place, Training

SPEC = """\
name: staged
space:
  options: {stage_strides: [1, 2], stem_stride: 1}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
resolution: 16
num_classes: 4
budget: {params: 2.0e+4, layers: 8}
classes: [{convs: 6}, {convs: 10}]
objective: {then: train}
proxy: {name: zen-closed-form}
sampler: {screening_candidates: 50}
training: {epochs: 2, rates: [0.2, 0.8], per_class: 2, finalists: 2, seeds: 2, held_back: 0.25}
trials: 10
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path, patches: DataSet) -> str:
    """The patches as an image folder."""
    for part, kept in (("train", patches.train), ("test", patches.test)):
        assert isinstance(kept, MemoryImages)
        for index, (pixels, label) in enumerate(zip(kept.pixels, kept.labels.tolist(), strict=True)):
            folder = tmp_path / "images" / part / patches.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{index:03d}.png")
    return f"imagefolder:{tmp_path / 'images'}"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "staged.yaml").write_text(SPEC)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_search_train_export_evaluate(cli: Run, images: str) -> None:
    # Without data the search ends with the command that trains.
    code, _, err = cli("optimize", "--study", "staged.yaml", "--workers", "1")
    assert code == 0
    assert "--study-name staged --trials 0 --set training.data=" in err
    code, _, err = cli("export-best", "--study", "staged", "--output", "none", "--by", "training")
    assert code == 2 and "no finished second stage" in err

    code, out, err = cli(
        "optimize",
        "--study-name",
        "staged",
        "--trials",
        "0",
        "--set",
        f"training.data={images}",
        "--json",
        "--workers",
        "1",
    )
    assert code == 0, err
    trained = json.loads(out)["trained"]
    # Two classes of two networks; the two best were trained with two seeds, and the best mean won.
    assert [item["candidate"]["label"] for item in trained["verified"]].count("convs <= 6") == 2
    assert len(trained["verified"]) == 4
    assert [len(item["top1"]) for item in trained["verified"]] == [2, 2, 1, 1]
    means = [sum(item["top1"]) / 2 for item in trained["verified"][:2]]
    assert means == sorted(means, reverse=True)
    assert {item["learning_rate"] for item in trained["verified"]} <= {0.2, 0.8}

    # export-best takes the winner with its weights.
    code, out, _ = cli("export-best", "--study", "staged", "--output", "bundle")
    assert code == 0 and "the best trained network, with its weights" in out
    bundle = read_bundle("bundle")
    assert bundle.structure == trained["verified"][0]["candidate"]["structure"]
    assert (
        bundle.scores is not None and "25 % of the training images, held back" in bundle.scores["chosen_by"]
    )
    assert bundle.scores["top1_seeds"] == trained["verified"][0]["top1"]
    assert Path("bundle/model.py").is_file()
    code, out, _ = cli("evaluate", "--weights", "bundle/best.pt", "--data", images, "--json")
    assert code == 0
    assert json.loads(out)["top1"] == pytest.approx(bundle.scores["test_top1"])

    # derive names the same ones, and writes nothing.
    code, out, _ = cli("derive", "--study", "staged", "--top", "2", "--json")
    derived = json.loads(out)
    assert code == 0 and derived["by"] == "training"
    assert [item["structure"] for item in derived["architectures"]] == [
        item["candidate"]["structure"] for item in trained["verified"][:2]
    ]
    assert [item["value"] for item in derived["architectures"]] == means

    # Its accuracies are compared with those of other networks of the budget.
    arguments = (
        "--data",
        images,
        "--top",
        "1",
        "--baselines",
        "1",
        "--epochs",
        "1",
        "--set",
        "batch_size=16",
    )
    code, out, err = cli("verify", "--study", "staged", *arguments, "--workers", "1", "--json")
    assert code == 0, err
    labels = {row["label"]: row["structure"] for row in json.loads(out)["networks"]}
    assert labels["second stage"] == bundle.structure and {"params-max", "macs-max"} <= labels.keys()

    # The score still can decide.
    code, out, _ = cli("export-best", "--study", "staged", "--output", "scored", "--by", "score", "--json")
    assert code == 0
    assert json.loads(out)["scores"]["proxy"] == "zen-closed-form"


@pytest.fixture
def searched(cli: Run, images: str) -> tuple[StudySpec, str]:
    assert cli("optimize", "--study", "staged.yaml", "--workers", "1", "--quiet")[0] == 0
    spec = read_spec(load_study(open_existing("sqlite:///zenopt.db"), "staged"))
    assert spec is not None
    return spec.overridden([f"training.data={images}"]), images


def test_candidates_are_the_best_scores_of_each_class(searched: tuple[StudySpec, str]) -> None:
    spec, _ = searched
    study = load_study(open_existing("sqlite:///zenopt.db"), "staged")
    found = class_candidates(study, spec, 2)
    assert [item.label for item in found] == ["convs <= 6"] * 2 + ["convs <= 10"] * 2
    assert len({item.structure for item in found}) == 4
    values = {
        trial.user_attrs["structure"]: (trial.user_attrs["convs"], trial.value) for trial in study.trials
    }
    shallow = sorted((value for convs, value in values.values() if convs <= 6), reverse=True)
    assert [item.facts["closed_form"] for item in found[:2]] == pytest.approx(shallow[:2])
    # Without classes, quarters by depth: the deepest class holds the study's best.
    plain = spec.model_copy(update={"classes": ()})
    quarters = class_candidates(study, plain, 1)
    assert quarters[0].facts["convs"] <= quarters[-1].facts["convs"]
    assert len({item.label for item in quarters}) == len(quarters) >= 2
    # Accuracies compare networks of any depth: the study's best, whatever they are.
    objective = plain.objective.model_copy(update={"kind": "supernet", "weights": "net"})
    best = class_candidates(study, plain.model_copy(update={"objective": objective}), 3)
    every = sorted((value for _, value in values.values()), reverse=True)
    assert [item.facts["closed_form"] for item in best] == pytest.approx(every[:3])
    assert {item.label for item in best} == {"best"}


def test_nothing_is_trained_twice_and_the_test_images_decide_nothing(
    searched: tuple[StudySpec, str], tmp_path: Path
) -> None:
    spec, _ = searched
    opened = open_existing("sqlite:///zenopt.db")
    told: list[Training] = []
    place = Place(opened, runs=tmp_path / "runs", on_result=told.append)
    first = run_second_stage("staged", spec, place)
    assert len(told) == 4 + 4 + 4  # rates of the first of each class, all networks, the finalists' seeds
    trials = load_study(opened, "staged-trained").get_trials()
    assert all("held back" in trial.user_attrs["data"] for trial in trials)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("last.pt")}
    again = run_second_stage("staged", spec, place)
    assert again == first == read_winner(opened, "staged")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("last.pt")} == written
    assert len(load_study(opened, "staged-trained").get_trials()) == len(trials)
    # The winner was trained on everything, the others on three quarters of it.
    sizes = {
        folder.parent: json.loads((folder.parent / "metrics.json").read_text())["train_images"]
        for folder in written
    }
    assert sizes[first.weights.parent] == 96
    assert sorted(set(sizes.values())) == [72, 96]
    assert read_torch_file(first.weights)["state"]["epoch"] == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.data=imagefolder:/nowhere", "/nowhere"),
        ("training.recipe=baisc", "baisc"),
        ("training.epochs=0", "training.epochs"),
        ("training.data=null", "--trials 0 is for a second stage"),
    ],
)
def test_bad_settings_are_one_line(
    searched: tuple[StudySpec, str], cli: Run, setting: str, message: str
) -> None:
    _, images = searched
    code, _, err = cli(
        "optimize",
        "--study-name",
        "staged",
        "--trials",
        "0",
        "--set",
        f"training.data={images}",
        "--set",
        setting,
    )
    assert code == 2 and message in err and "Traceback" not in err


def test_lost_weights_are_named(searched: tuple[StudySpec, str], cli: Run) -> None:
    _, images = searched
    fast = [
        "--workers",
        "1",
        "--set",
        "training.rates=[]",
        "--set",
        "training.per_class=1",
        "--set",
        "training.epochs=1",
    ]
    code, *_ = cli(
        "optimize", "--study-name", "staged", "--trials", "0", "--set", f"training.data={images}", *fast
    )
    assert code == 0
    winner = read_winner(open_existing("sqlite:///zenopt.db"), "staged")
    assert winner is not None
    winner.weights.unlink()
    code, _, err = cli("export-best", "--study", "staged", "--output", "bundle")
    assert code == 2 and "are not at" in err and "--by score" in err


def test_two_processes_train_what_one_does(searched: tuple[StudySpec, str], tmp_path: Path) -> None:
    spec, _ = searched
    opened = open_existing("sqlite:///zenopt.db")
    spec = spec.overridden(["training.epochs=1", "training.per_class=1", "training.rates=[0.5]"])

    def accuracies(folder: str, **options: object) -> dict[tuple[str, int], float]:
        run_second_stage("staged", spec, Place(opened, runs=tmp_path / folder, **options))  # type: ignore[arg-type]
        trials = load_study(opened, "staged-trained").get_trials()
        optuna.delete_study(study_name="staged-trained", storage=opened)
        return {(t.user_attrs["structure"], t.user_attrs["training_seed"]): t.value for t in trials}

    shared = accuracies("two", workers=2, url="sqlite:///zenopt.db")
    assert len(shared) == 4  # two networks, both finalists, two seeds
    assert shared == accuracies("one")


def test_the_same_from_python(
    searched: tuple[StudySpec, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, images = searched
    result = zenopt.load_result("staged")
    assert result.winner is None
    with pytest.raises(StudyError, match=r"call Result\.train first"):
        result.export(tmp_path / "none", by="training")
    told: list[Training] = []
    capsys.readouterr()
    winner = result.train(
        images,
        runs=tmp_path / "runs",
        overrides=["training.epochs=1", "training.per_class=1", "training.rates=[0.5]", "training.seeds=1"],
        on_result=told.append,
    )
    assert result.winner == winner and len(told) == 2
    assert "A new study" not in capsys.readouterr().err
    assert "architecture=" not in repr(result.best)
    bundle = read_bundle(result.export(tmp_path / "bundle"))
    assert bundle.structure == winner.verified[0].candidate.structure
    assert (tmp_path / "bundle" / "best.pt").is_file()
    assert read_bundle(result.export(tmp_path / "scored", by="score")).study == "staged"


class _EndsFurtherSeeds(optuna.pruners.BasePruner):
    """Ends every training but those of the first seed."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return bool(trial.user_attrs[SEED_KEY] > 0)


def test_finalists_are_judged_by_all_their_seeds(
    searched: tuple[StudySpec, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a network whose worse seeds were pruned wins by its lucky one.
    def pruner_of(spec: StudySpec) -> optuna.pruners.BasePruner:
        return optuna.pruners.NopPruner() if spec.training.pruner.name == "none" else _EndsFurtherSeeds()

    monkeypatch.setattr("zenopt.study.worker.make_pruner", pruner_of)
    spec = searched[0].overridden(["training.pruner=median", "training.rates=[0.5]"])
    place = Place(open_existing("sqlite:///zenopt.db"), runs=tmp_path / "runs")
    winner = run_second_stage("staged", spec, place)
    assert [(len(item.top1), item.pruned) for item in winner.verified[:2]] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("sampler", ["surrogate", "random"])
def test_finalists_of_a_learned_search_are_no_lucky_numbers(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "staged.yaml").write_text(SPEC)
    spec = StudySpec.load(
        tmp_path / "staged.yaml",
        ["classes=[]", "objective={kind: train}", "training.data=synthetic:64", f"sampler.name={sampler}"],
    )
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "trained", "cpu")
    space, rng = spec.build_space(), random.Random(0)
    drawn = {str(own): own for own in (space.draw(rng) for _ in range(200)) if own is not None}
    # Accuracy grows with the size; but one training of a small network, between bad neighbours, had luck.
    ordered = sorted(drawn.values(), key=lambda own: spec.limits().count(own).params)[::3][:24]
    lucky = 8
    values = [40.0 + place + rng.uniform(-0.5, 0.5) for place in range(len(ordered))]
    values[lucky] = 66.0
    for architecture, value in zip(ordered, values, strict=True):
        attributes = {"structure": str(architecture), SEED_KEY: 0, LEARNING_RATE_KEY: 0.2, LABEL_KEY: "all"}
        load_study(storage, "trained").add_trial(
            optuna.trial.create_trial(value=value, user_attrs=attributes)
        )
    ranked: list[str] = []
    monkeypatch.setattr(
        final,
        "choose",
        lambda trainings, found, *rest: ranked.extend(own.candidate.structure for own in found),
    )
    final.finish("trained", spec, Place(storage, runs=tmp_path / "runs"))
    assert sorted(ranked) == sorted(map(str, ordered))
    if sampler == "random":
        assert ranked[0] == str(ordered[lucky])
    else:
        assert set(ranked[:2]) <= set(map(str, ordered[-6:]))


def test_a_choice_that_was_cut_off_goes_on_with_its_finalists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "staged.yaml").write_text(SPEC)
    settings = ["classes=[]", "objective={kind: train}", "training.data=synthetic:64", "sampler.name=random"]
    spec = StudySpec.load(tmp_path / "staged.yaml", [*settings, "training.finalists=2"])
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "trained", "cpu")
    space, rng = spec.build_space(), random.Random(0)
    drawn = list({str(own) for own in (space.draw(rng) for _ in range(50)) if own is not None})[:5]

    def tell(structure: str, value: float, seed: int = 0, label: str = "all") -> None:
        attributes = {"structure": structure, SEED_KEY: seed, LEARNING_RATE_KEY: 0.2, LABEL_KEY: label}
        load_study(storage, "trained").add_trial(
            optuna.trial.create_trial(value=value, user_attrs=attributes)
        )

    def ranking() -> list[Candidate]:
        found: list[Candidate] = []
        monkeypatch.setattr(final, "choose", lambda trainings, ranked, *rest: found.extend(ranked))
        final.finish("trained", spec, Place(storage, runs=tmp_path / "runs"))
        return [item.candidate for item in found]

    for value, structure in zip((50.0, 40.0, 45.0, 30.0), drawn[:4], strict=True):
        tell(structure, value)
    assert [own.structure for own in ranking()] == [drawn[place] for place in (0, 2, 1, 3)]
    # The second finalist's further seed is bad: by its mean it were third. An older study has numbers in its labels.
    tell(drawn[2], 20.0, seed=1, label="all #2")
    found = ranking()
    assert [own.structure for own in found] == [drawn[place] for place in (0, 2, 1, 3)]
    assert [own.title for own in found] == ["trial 0", "trial 2", "trial 1", "trial 3"]
    # A new network is a new choice.
    tell(drawn[4], 41.0)
    assert [own.structure for own in ranking()] == [drawn[place] for place in (0, 4, 1, 2, 3)]
