"""Traced modules agree with the lowering, and with counts of plain torch networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from zenopt.core.errors import DeviceError
from zenopt.core.lowering import lower
from zenopt.latency import predict_latency_ms
from zenopt.latency.operations import layer_operation
from zenopt.latency.trace import predict_module_latency_ms, trace_operations
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture

MIXED = "SuperConvK3BNRELU(3,8,2,1)SuperResK1K5K1(8,16,2,8,1)SuperResIDWE4K3(16,24,2,16,2)SuperConvK1BNRELU(24,32,1,1)"


@pytest.mark.parametrize("use_se", [False, True])
def test_trace_of_a_built_network_is_its_lowering(use_se: bool) -> None:
    architecture = Architecture.parse(MIXED)
    traced = trace_operations(build_network(architecture, num_classes=10, use_se=use_se), 65)
    lowered = [layer_operation(layer) for layer in lower(architecture, 65, num_classes=10, use_se=use_se)]
    # The shortcut runs after the body in both, but the trace knows no roles.
    alike = [sorted(repr(replace(op, role="", block=0)) for op in ops) for ops in (traced, lowered)]
    assert alike[0] == alike[1]


@pytest.mark.parametrize("name", ["v100-fp16-b64", "t4-int8-b64"])
def test_module_and_architecture_get_the_same_prediction(name: str) -> None:
    architecture = Architecture.parse(MIXED)
    network = build_network(architecture, num_classes=10, use_se=True)
    expected = predict_latency_ms(architecture, name, 224, 10, use_se=True)
    assert predict_module_latency_ms(network, name, 224) == pytest.approx(expected, rel=1e-9)


def test_resnet34_counts() -> None:
    operations = trace_operations(torchvision.models.resnet34(), 224)
    # 3,663,761,408 is torchvision's own figure for multiply-adds; 33 convolutions + 3 projections.
    assert sum(op.macs for op in operations) == 3_663_761_408
    assert sum(op.weights for op in operations) == 21_797_672
    assert sum(op.kind == "conv" for op in operations) == 36
    assert sum(op.kind == "add" for op in operations) == 16


def test_functional_operations_are_seen() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1, groups=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.nn.functional.relu(self.conv(x))
            y = y * torch.sigmoid(y) + y
            return torch.nn.functional.linear(y.flatten(1), torch.empty(5, 4 * 64, device=y.device))

    kinds = [op.kind for op in trace_operations(Functional(), 8)]
    assert kinds == ["conv", "activation", "activation", "multiply", "add", "linear"]


def test_attention_is_counted() -> None:
    # 4 tokens of width 8: scores 4*4*8 and mixing 4*4*8 multiply-adds.
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ x.transpose(1, 2)).softmax(-1) @ x

    operations = trace_operations(Attention(), 0, input_shape=(4, 8))
    assert sum(op.macs for op in operations if op.kind == "matmul") == 2 * 4 * 4 * 8


def test_tracing_changes_nothing() -> None:
    network = torchvision.models.resnet18().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trace_operations(network, 64)
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_data_dependent_module_is_refused_in_one_line() -> None:
    class Dependent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(DeviceError, match="Cannot trace Dependent") as error:
        trace_operations(Dependent(), 8)
    assert "\n" not in str(error.value)
