"""Study files to begin with: whatever the space and the objective, they say what the spec says, and run."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from zenopt.core.errors import ZenoptError
from zenopt.spaces.registry import SPACES, get_space
from zenopt.study.fields import FIELDS, fields_of, option_words, space_options
from zenopt.study.registries import EVALUATORS, SAMPLERS, list_samplers
from zenopt.study.spec import StudySpec
from zenopt.study.template import Template, make_template

#: Everything that can be asked for; a table of columns has no networks to score or train, some spaces no supernet.
PAIRS = [
    (space, objective)
    for space in sorted(SPACES.built_in)
    for objective in (*sorted(EVALUATORS.built_in), "naswot")
    if (space != "columns" or objective == "table")
    and (objective != "supernet" or not get_space(space).no_supernet)
]


def reloaded(template: Template, folder: Path) -> StudySpec:
    path = folder / "made.yaml"
    path.write_text(template.text)
    return StudySpec.load(path)


def without_options(spec: StudySpec) -> dict:
    content = spec.model_dump(mode="json")
    del content["space"]["options"]
    return content


@pytest.mark.parametrize(("space", "objective"), PAIRS)
def test_what_is_written_is_read_again(tmp_path: Path, space: str, objective: str) -> None:
    template = make_template(space, objective)
    spec = reloaded(template, tmp_path)
    assert without_options(spec) == without_options(template.spec)
    assert spec.space.name == space and spec.trials == 100
    assert (spec.proxy.name if objective == "naswot" else spec.objective.kind) == objective
    # Written out, the options are those that the space has by itself.
    wanted, made = template.spec.space.build(), spec.space.build()
    if not wanted.reads_files:
        assert made.distributions == wanted.distributions and made.initial == wanted.initial
    # Whatever it says is what is said of it, with the default.
    assert len(template.yours) == {"table": 2, "train": 1, "supernet": 1}.get(objective, 0) + 2 * (
        space == "columns"
    )
    assert template.text.count("YOURS TO FILL IN") == len(template.yours)


@pytest.mark.parametrize("sampler", list_samplers())
def test_samplers_have_the_fields_that_they_read(tmp_path: Path, sampler: str) -> None:
    template = make_template("nasbench201", "proxy", sampler)
    assert reloaded(template, tmp_path).sampler.name == sampler
    written = yaml.safe_load(template.text)["sampler"]
    assert ("tournament" in written) == (sampler == "aging")
    assert ("options" in written) == (sampler not in SAMPLERS.built_in)


def test_what_is_off_can_be_switched_on(tmp_path: Path) -> None:
    template = make_template("superres", "params", overrides={"budget.params": 1e6})
    lines = template.text.splitlines()
    for section in ("latency", "  guide"):
        start = lines.index(f"{section[: -len(section.strip())]}# {section.strip()}:")
        for number in range(start, len(lines)):
            if not lines[number].strip().startswith("#"):
                break
            lines[number] = lines[number].replace("# ", "", 1)
    path = tmp_path / "on.yaml"
    path.write_text("\n".join(lines))
    spec = StudySpec.load(path)
    assert spec.latency is not None and spec.latency.device == "v100-fp16-b64" and spec.latency.guards is None
    assert spec.sampler.guide is not None and spec.sampler.guide.proxy == "params"


def test_what_does_not_fit_is_left_out() -> None:
    content = yaml.safe_load(make_template("nasbench201", "table").text)
    assert "proxy" not in content and "weights" not in content["objective"]
    content = yaml.safe_load(make_template("nasbench201", "supernet").text)
    assert "table" not in content["objective"] and "proxy" not in content
    assert "then" not in yaml.safe_load(make_template("darts", "train").text)["objective"]
    content = yaml.safe_load(make_template("columns", "table").text)
    assert "latency_ms" not in content["budget"] and "latency" not in content


def test_given_values_stand_in_it() -> None:
    given = ("budget.params=5e5", "objective.table=x.csv", "objective.column=acc", "sampler.population=7")
    template = make_template("nasbench201", "table", "aging", given, name="mine")
    spec = template.spec
    assert spec.name == "mine" and spec.budget.params == 5e5 and spec.sampler.population == 7
    assert spec.objective.column == "acc" and template.yours == {}
    content = yaml.safe_load(template.text)
    assert content["budget"]["params"] == 5e5 and content["sampler"]["population"] == 7


def test_every_field_and_option_has_words() -> None:
    assert {path for path, _ in fields_of(StudySpec)} == set(FIELDS)
    for name in sorted(SPACES.built_in):
        words = option_words(get_space(name))
        assert all(words.get(option) for option in space_options(get_space(name))), name
    # One key, one comment above it.
    lines = make_template("superres", "zen").text.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\s*[a-z_]+:", line):
            assert above.strip().startswith("#") or above.strip().endswith(":"), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "Unknown space"),
        (("darts", "nothing"), "Unknown evaluator 'nothing'"),
        (("darts", "proxy", "nobody"), "there is no sampler 'nobody'"),
        (("columns", "zen"), "needs networks"),
        (("darts", "proxy", None, ["budget.parms=1"]), "did you mean 'params'"),
        (("darts", "vote", None, ["proxy.reference=1"]), "reference"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple, message: str) -> None:
    with pytest.raises(ZenoptError) as caught:
        make_template(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
