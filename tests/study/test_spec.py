"""Study specs: presets, validation, overrides, identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zenopt.core.errors import SpecError, StudyError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec, list_presets

PUBLISHED = ["cifar-params1m", "cifar-params2m", "flops400m", "flops600m", "flops800m"]
PUBLISHED += [f"latency{number}ms" for number in ("01", "02", "03", "05", "08", "12")]
MINIMAL = "name: mine\nresolution: 32\ntrials: 3\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# -- presets -----------------------------------------------------------------------------------------------------------


def test_presets() -> None:
    assert set(PUBLISHED) <= set(list_presets())


@pytest.mark.parametrize("name", list_presets())
def test_presets_are_valid(name: str) -> None:
    spec = StudySpec.load(name)
    assert spec.name == name
    assert spec.description
    assert spec.build_space() is not None


@pytest.mark.parametrize("bounds", ["wide", "narrow"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_of_published_searches(name: str, bounds: str) -> None:
    spec = StudySpec.load(name, [f"space.bounds={bounds}"])
    # The published score batch and a smaller one for a CPU; budgets in the released code's own counts, without SE.
    assert (spec.proxy.batch_sizes.cuda, spec.proxy.batch_sizes.cpu) == (64, 16)
    assert spec.budget.counting == "zennas"
    assert not spec.use_se
    space = spec.build_space()
    initial = space.parse(space.initial)
    assert spec.limits().check(initial).is_feasible


@pytest.mark.parametrize("name", ["latency01ms", "latency12ms"])
def test_latency_presets_search_to_a_margin(name: str) -> None:
    spec = StudySpec.load(name)
    assert spec.latency is not None
    assert spec.latency.device == "v100-fp16-b64-eager"
    assert spec.latency.margin == 0.85
    budget = {"latency01ms": 0.1, "latency12ms": 1.2}[name]
    assert spec.budget.latency_ms == budget
    assert spec.limits().budget.latency_ms == pytest.approx(0.85 * budget)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(
        SpecError,
        match=r"Unknown study preset 'demmo' \(did you mean 'demo'\?\); presets are cifar-params1m, .*demo, ",
    ):
        StudySpec.load("demmo")


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_of_ones_own(write: Callable[[str], Path]) -> None:
    path = write(f"{MINIMAL}budget: {{params: 1e6}}\nsampler: {{screening: off}}\n")
    spec = StudySpec.load(path)
    assert spec == StudySpec.load(str(path))
    # YAML 1.1 reads 1e6 as text and a bare off as a boolean.
    assert spec.budget.params == 1_000_000
    assert spec.sampler.screening == "off"
    assert (spec.num_classes, spec.seed, spec.proxy.name, spec.sampler.population) == (1000, 0, "zen", 512)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "trails: 4",
            r"mine\.yaml, line 4: trails: unknown key \(did you mean 'trials'\?\); allowed: name, ",
        ),
        (
            "budget:\n  paramz: 3",
            r"mine\.yaml, line 5: budget\.paramz: unknown key .*allowed: params, macs, ",
        ),
        ("budget:\n  params: -1", r"line 5: budget\.params: input should be greater than 0, got -1\.$"),
        ("budget: {params: many}", r"line 4: budget\.params: input should be a valid number, .*got 'many'"),
        ("budget: {params: .inf}", r"budget\.params: input should be a finite number, got inf"),
        ("budget:", r"line 4: budget: expected keys and values below it, got None"),
        ("budget: {counting: both}", r"budget\.counting: input should be 'true' or 'zennas', got 'both'"),
        ("budget: {latency_ms: 1}", r"budget\.latency_ms needs a latency section that names a device"),
        (
            "latency: {device: v100-fp16-b64, margin: 2}",
            r"latency\.margin: input should be less than or equal",
        ),
        ("latency: {device: toaster}", r"Unknown device profile 'toaster'; known: .*v100-fp16-b64"),
        ("proxy: {name: zenn}", r"mine\.yaml: Unknown proxy 'zenn'; did you mean 'zen'\? Known proxies: "),
        (
            "proxy: {batch_sizes: {cpu: 1}}",
            r"proxy\.batch_sizes\.cpu: input should be greater than or equal to 2",
        ),
        ("space: {name: superes}", r"Unknown space 'superes'; did you mean 'superres'\?"),
        ("space: {bounds: narrow}", r"space\.bounds is 'narrow' but space\.narrow gives no bounds"),
        (
            "space: {options: {slotz: 2}}",
            r"space\.options\.slotz: unknown key \(did you mean 'slots'\?\); .* takes b",
        ),
        ("space: {narrow: {slotz: 2}}", r"space\.narrow\.slotz: unknown key \(did you mean 'slots'\?\)"),
        ("space: {narrow: {slots: 2.5}}", r"line 4: space\.narrow\.slots: input should be a valid integer"),
        ("space: {options: {slots: 2.5}}", r"space\.slots must be an integer from 1 to 1000, got 2\.5"),
        ("space: {options: {stage_strides: 2}}", r"space\.options do not fit the space 'superres'"),
        ("space: {options: {max_width: 20}}", r"space\.max_width must be a multiple of 8"),
        ("space: {options: {initial: x}}", r"space\.options\.initial: unknown key"),
        (
            "space: {initial: 'SuperX(3,8,1,1)'}",
            r"mine\.yaml: Block 0 SuperX at position 0: unknown block type",
        ),
        ("space: {initial: 'SuperConvK3BNRELU(3,8,1,1)'}", r"mine\.yaml: Outside the space: "),
        (
            "space: {options: {stage_strides: [2, 2]}}",
            r"Outside the space: the strides of the stages must be \(2, 2\)",
        ),
        (
            "sampler: {name: nsga}",
            r"sampler\.name: there is no sampler 'nsga'; known: aging, .* module:object",
        ),
        ("seed: -1", r"line 4: seed: input should be greater than or equal to 0, got -1"),
        ("seed: 1\nseeds: 2\nuse_se: maybe", r" \(1 more\)\.$"),
    ],
)
def test_mistakes_say_where_and_what_is_allowed(
    write: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        StudySpec.load(write(f"{MINIMAL}{text}\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mine\ntrials: 3\n", r"resolution: this key is required"),
        ("name: a b\nresolution: 32\ntrials: 1", r"line 1: name: string should match pattern .*got 'a b'"),
        ("name: mine\nresolution: 32px\ntrials: 1", r"line 2: resolution: input should be a valid integer"),
    ],
)
def test_required_keys(write: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        StudySpec.load(write(text))


# -- overrides ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("budget.params=5e5", ("budget", "params"), 500_000),
        ("budget.params=null", ("budget", "params"), None),
        ("space.options.slots=3", ("space", "options", "slots"), 3),
        ("space.options.stage_strides=[1, 2, 2, 2]", ("space", "options", "stage_strides"), [1, 2, 2, 2]),
        ("sampler.screening=off", ("sampler", "screening"), "off"),
        ("sampler.name=nsga2", ("sampler", "name"), "nsga2"),
        ("use_se=true", ("use_se",), True),
        ("budget.counting=true", ("budget", "counting"), "true"),
        ("description=three words here", ("description",), "three words here"),
        (" seed = 7 ", ("seed",), 7),
        ("latency={device: v100-fp16-b64, margin: 0.9}", ("latency", "margin"), 0.9),
    ],
)
def test_every_field_can_be_overridden(assignment: str, path: tuple[str, ...], value: Any) -> None:
    # A device speaks about its own resolutions alone.
    preset = "latency01ms" if assignment.startswith("latency") else "demo"
    found: Any = StudySpec.load(preset, [assignment]).model_dump()
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("budget.params", r"--set 'budget\.params': expected path=value"),
        ("=3", r"--set '=3': expected path=value"),
        ("budget..params=3", r"expected path=value"),
        ("trials.x=3", r"--set 'trials\.x=3': 'trials' is a value, not a section"),
        ("budget.params=[", r"--set 'budget\.params=\[': the value is not valid YAML: "),
        ('name="', r"the value is not valid YAML: found unexpected end of stream"),
        (f"space.options={'[' * 1000}", r"the value is nested too deeply|not valid YAML"),
        ("budget.paramz=3", r"--set: budget\.paramz: unknown key \(did you mean 'params'\?\)"),
        ("budgets.params=3", r"--set: budgets: unknown key \(did you mean 'budget'\?\)"),
        ("budget=5", r"--set: budget: expected keys and values below it, got 5"),
        ("budget.params=1,000", r"--set: budget\.params: input should be a valid number"),
    ],
)
def test_unusable_overrides(assignment: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        StudySpec.load("demo", [assignment])
    assert "\n" not in str(caught.value)


def test_overrides_of_a_stored_spec() -> None:
    spec = StudySpec.load("demo")
    changed = spec.overridden(["budget.params=5e5", "seed=4"])
    assert (changed.budget.params, changed.seed) == (500_000, 4)
    assert spec.budget.params == 1_000_000
    assert changed.overridden(["budget.params=1e6", "seed=0"]) == spec
    with pytest.raises(SpecError, match=r"^--set: budget\.params: "):
        spec.overridden(["budget.params=none at all"])


# -- what a study keeps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_presets())
def test_specs_survive_storage(name: str) -> None:
    spec = StudySpec.load(name).with_batch_size("cuda:1")
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_score_batch_follows_the_device() -> None:
    spec = StudySpec.load("demo")
    batches = {
        device: spec.with_batch_size(device).proxy.batch_size for device in ("cpu", "cuda", "cuda:1", "xpu")
    }
    assert batches == {"cpu": 16, "cuda": 64, "cuda:1": 64, "xpu": 16}
    assert spec.overridden(["proxy.batch_size=32"]).with_batch_size("cuda").proxy.batch_size == 32


def test_identity_is_what_makes_values_comparable() -> None:
    spec = StudySpec.load("demo")
    for same in (
        "seed=5",
        "trials=7",
        "timeout_s=3",
        "sampler.name=tpe",
        "sampler.population=9",
        "description=x",
        # Narrow bounds of a wide search are not in use.
        "space.narrow.slots=3",
    ):
        assert spec.overridden([same]).identity() == spec.identity()
    for other in (
        "resolution=64",
        "num_classes=7",
        "use_se=true",
        "budget.params=2e6",
        "budget.counting=zennas",
        "proxy.name=naswot",
        "proxy.gamma=0.1",
        "proxy.repeats=2",
        "proxy.batch_size=8",
        "space.bounds=narrow",
        "space.options.slots=2",
    ):
        key = other.partition("=")[0]
        changed = spec.overridden([other]).identity()
        differing = [k for k in {**changed, **spec.identity()} if changed.get(k) != spec.identity().get(k)]
        assert [k for k in differing if not k.startswith("space.narrow")] == [key]


def test_an_empty_initial_structure_gives_a_plain_one(write: Callable[[str], Path]) -> None:
    spec = StudySpec.load(write(f"{MINIMAL}space: {{initial: '', options: {{stage_strides: [1, 2, 4]}}}}\n"))
    space = spec.build_space()
    assert space.contains(Architecture.parse(space.initial))
    assert len(Architecture.parse(space.initial).blocks) == 5


def test_a_resolution_that_the_device_does_not_know_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match=r"latency.device: .* 128 to 528, got 32; choose a resolution"):
        StudySpec.load("latency01ms", ["resolution=32"])


def test_a_length_is_asked_for_when_a_search_begins(write: Callable[[str], Path]) -> None:
    spec = StudySpec.load(write("name: mine\nresolution: 32\n"))
    assert (spec.trials, spec.timeout_s) == (None, None)
    with pytest.raises(StudyError, match=r"--trials, or trials in the study file"):
        run_search(spec, "memory:", "mine")
