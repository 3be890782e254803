"""Predicted latency: agreement with published figures, caching and refusals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from zenopt.core.errors import DeviceError, StructureError, UnknownNameError
from zenopt.latency import DeviceProfile, list_profiles, load_profile, predict_latency_ms
from zenopt.latency.profile import DEVICES_FOLDER
from zenopt.spaces.chain.architecture import Architecture

TINY = "SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,1,8,1)"


def test_additive_terms_by_hand() -> None:
    # Stem at 128 -> 64 px: 3*8*9*64*64 = 884,736 MACs; conv moves 3*128^2 + 8*64^2, BN and ReLU 2*8*64^2 each.
    architecture = Architecture.parse("SuperConvK3BNRELU(3,8,2,1)")
    macs = 884_736 + 8 * 10
    numbers = (3 * 128**2 + 8 * 64**2) + 2 * (2 * 8 * 64**2) + (8 * 64**2 + 8) + (8 + 10)
    rates = load_profile("v100-fp16-b64").model["coefficients"]
    expected = rates["dense_gmacs"] * macs / 1e9 + rates["traffic_gb"] * 2 * numbers / 1e9
    assert predict_latency_ms(architecture, "v100-fp16-b64", 128, 10) == pytest.approx(expected, rel=1e-12)


def test_known_profiles_load_and_predict() -> None:
    assert "v100-fp16-b64" in list_profiles()
    architecture = Architecture.parse(TINY)
    for name in list_profiles():
        profile = load_profile(name)
        assert profile.name == name
        assert predict_latency_ms(architecture, profile, 224) > 0
        assert {"protocol", "mape"} <= set(profile.errors)


def test_repeated_predictions_are_equal_and_cached() -> None:
    profile = load_profile("v100-fp16-b64")
    architecture = Architecture.parse(TINY)
    first = predict_latency_ms(architecture, profile, 224)
    known = len(profile.cache)
    assert predict_latency_ms(architecture, profile, 224) == first
    assert len(profile.cache) == known


def test_gates_and_classes_cost_time() -> None:
    architecture = Architecture.parse(TINY)
    plain = predict_latency_ms(architecture, "v100-fp16-b64", 224)
    assert predict_latency_ms(architecture, "v100-fp16-b64", 224, use_se=True) > plain
    assert predict_latency_ms(architecture, "v100-fp16-b64", 224, num_classes=10) < plain


def test_other_resolutions_are_refused_unless_asked() -> None:
    architecture = Architecture.parse(TINY)
    with pytest.raises(DeviceError, match="resolutions 128 to 528, got 32"):
        predict_latency_ms(architecture, "v100-fp16-b64", 32)
    assert predict_latency_ms(architecture, "v100-fp16-b64", 32, any_resolution=True) > 0
    with pytest.raises(StructureError):
        predict_latency_ms(architecture, "v100-fp16-b64", 0)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="v100-fp16-b64"):
        load_profile("gameboy")


def test_missing_file_is_one_line(tmp_path) -> None:
    with pytest.raises(DeviceError, match=r"none\.json cannot be read: No such file") as error:
        load_profile(tmp_path / "none.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema_version is 99"),
        ({"batch": 0}, "batch must be"),
        ({"batch": "many"}, "batch must be"),
        ({"dtype": "fp4"}, "dtype must be one of"),
        ({"resolutions": [224]}, "resolutions must be"),
        ({"colour": "blue"}, "unknown keys: colour"),
        ({"model": {"kind": "magic"}}, "Unknown latency model kind 'magic'"),
        ({"model": {"kind": "additive"}}, "cannot be read"),
        ({"model": {"kind": "additive", "coefficients": {"dense_gmacs": -1}}}, "non-negative"),
        ({"model": {"kind": "additive", "coefficients": {"dense_gmacs": "much"}}}, "cannot be read"),
        ({"model": {"kind": "additive", "coefficients": {"horses": 1}}}, "Unknown latency term 'horses'"),
        ({"model": 3}, "model must be an object"),
        ({"validity": {"latency_ms": [1]}}, "validity.latency_ms must be"),
    ],
)
def test_damaged_profiles_are_refused_in_one_line(tmp_path, change, message) -> None:
    content = json.loads((DEVICES_FOLDER / "v100-fp16-b64.json").read_text())
    content.update(change)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DeviceError, match=message) as error:
        load_profile(path)
    assert "\n" not in str(error.value)


def test_text_that_is_no_json_is_refused(tmp_path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(DeviceError, match="not valid JSON"):
        load_profile(path)


def test_save_and_load_round_trip(tmp_path) -> None:
    profile = load_profile("v100-fp16-b64")
    profile.save(tmp_path / "copy.json")
    copy = load_profile(tmp_path / "copy.json")
    assert isinstance(copy, DeviceProfile)
    assert copy.to_json() == profile.to_json()


def test_prediction_imports_neither_torch_nor_optuna() -> None:
    code = "import sys, zenopt.latency; print({'torch', 'optuna', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
