from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from zenopt.export.bundle import Bundle
from zenopt.export.deploy import (
    SUFFIXES,
    DeployError,
    accuracy,
    compare,
    deploy_bundle,
    export_network,
    fold_batch_norms,
    load_exported,
    quantize_onnx,
)
from zenopt.export.standalone import write_model_file
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture

SUPERRES = "SuperConvK3BNRELU(3,8,1,1)SuperResK1K3K1(8,16,2,8,1)SuperResK5K5(16,16,1,8,1)SuperConvK1BNRELU(16,24,1,1)"
MOBILE = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE2K3(8,16,2,8,1)SuperConvK1BNRELU(16,24,1,1)"


def lived_in(text: str, use_se: bool = False) -> nn.Module:
    """A network whose norms hold statistics and weights of their own, as after training."""
    torch.manual_seed(0)
    network = build_network(Architecture.parse(text), num_classes=5, use_se=use_se)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def needed(format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")


def test_formats_are_the_ones_tested() -> None:
    assert list(SUFFIXES) == ["torchscript", "torch-export", "onnx"]


@pytest.mark.parametrize(("text", "use_se"), [(SUPERRES, False), (SUPERRES, True), (MOBILE, True)])
def test_folding_keeps_the_function_and_leaves_no_norm(text: str, use_se: bool) -> None:
    network = lived_in(text, use_se)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    _, relative = compare(network, folded, resolution=16)
    assert relative < 1e-5
    # The original is untouched.
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "format", ["torchscript", "torch-export", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_exports_compute_the_same_at_any_batch_size(format: str, tmp_path: Path) -> None:
    needed(format)
    network = lived_in(SUPERRES, use_se=True)
    file = tmp_path / f"network{SUFFIXES[format]}"
    deployed = export_network(network, file, format=format, resolution=16)
    assert deployed.file_bytes == file.stat().st_size > 1000
    assert deployed.max_relative_error < 1e-5
    images = torch.randn(7, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(load_exported(file, format)(images), network(images), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_wrong_export_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = lived_in(SUPERRES)
    other = lived_in(SUPERRES)
    nn.init.normal_(other.classifier.weight)
    monkeypatch.setattr("zenopt.export.deploy.fold_batch_norms", lambda _network: other)
    with pytest.raises(DeployError, match="differs from the network"):
        export_network(network, tmp_path / "wrong.pt", format="torchscript", resolution=16)
    assert not (tmp_path / "wrong.pt").exists()


def test_an_unknown_format_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = lived_in(MOBILE)
    with pytest.raises(DeployError, match="allowed: torchscript, torch-export, onnx"):
        export_network(network, tmp_path / "x", format="coreml", resolution=16)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(DeployError, match=r"pip install 'zenopt\[onnx\]'"):
        export_network(network, tmp_path / "x.onnx", format="onnx", resolution=16)


@pytest.mark.slow
def test_int8_stays_near_the_float_network(tmp_path: Path) -> None:
    needed("onnx")
    network = lived_in(SUPERRES)
    export_network(network, tmp_path / "float.onnx", format="onnx", resolution=16)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(16, 3, 16, 16, generator=generator) for _ in range(4)]
    target = quantize_onnx(tmp_path / "float.onnx", tmp_path / "int8.onnx", batches)
    run = load_exported(target, "onnx")
    with torch.no_grad():
        error = (run(batches[0]) - network(batches[0])).abs().mean()
        spread = network(batches[0]).std()
    assert 0 < error < 0.2 * spread  # quantised, hence not equal
    import onnx

    kinds = {node.op_type for node in onnx.load(str(target)).graph.node}
    assert "QuantizeLinear" in kinds
    with pytest.raises(DeployError, match="needs calibration images"):
        quantize_onnx(tmp_path / "float.onnx", tmp_path / "none.onnx", [])


def test_accuracy() -> None:
    logits = torch.eye(4)
    batches = [(torch.tensor([0, 1]), torch.tensor([0, 1])), (torch.tensor([2, 3]), torch.tensor([2, 0]))]
    assert accuracy(lambda rows: logits[rows], batches) == 75.0
    with pytest.raises(DeployError, match="no test images"):
        accuracy(lambda rows: logits[rows], [])


def load_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("found_network", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("text", "use_se"), [(SUPERRES, False), (MOBILE, True)])
def test_the_model_file_stands_alone(text: str, use_se: bool, tmp_path: Path) -> None:
    network = lived_in(text, use_se)
    file = write_model_file(
        Architecture.parse(text), tmp_path / "model.py", resolution=16, num_classes=5, use_se=use_se
    )
    imports = [line for line in file.read_text().splitlines() if line.startswith(("import", "from"))]
    assert imports == ["import torch", "from torch import nn"]
    standalone = load_file(file).build()
    assert list(standalone.state_dict()) == list(network.state_dict())
    standalone.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(standalone.eval()(images), network(images))
    assert load_file(file).build(num_classes=7).classifier.out_features == 7


def test_a_bundle_is_deployed_with_the_weights_of_training(tmp_path: Path) -> None:
    bundle = Bundle(structure=MOBILE, resolution=16, num_classes=100, use_se=True)
    network = lived_in(MOBILE, use_se=True)
    torch.save({"model": network.state_dict()}, tmp_path / "best.pt")
    (made,) = deploy_bundle(bundle, tmp_path, ["torchscript"], weights=tmp_path / "best.pt")
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        found = load_exported(made.file, "torchscript")(images)
        assert torch.allclose(found, network(images), atol=1e-4)
    (plain,) = deploy_bundle(bundle, tmp_path / "initial", ["torchscript"])
    assert load_exported(plain.file, "torchscript")(images).shape == (3, 100)
