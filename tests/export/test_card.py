"""Model cards: what timm loads, what torch alone loads, and what the front matter says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from zenopt.cli import main
from zenopt.export.bundle import Bundle, write_bundle
from zenopt.export.card import Trained, write_card
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture

TEXT = "SuperConvK3BNRELU(3,8,1,1)SuperResIDWE2K3(8,16,2,16,1)SuperConvK1BNRELU(16,24,1,1)"
BUNDLE = Bundle(
    TEXT,
    resolution=16,
    num_classes=3,
    use_se=True,
    study="mine",
    trial=4,
    costs={"params": 1234, "macs": 56789, "activation_bytes": 4321, "depth_to_width": 0.129331054},
)


def trained() -> Trained:
    torch.manual_seed(3)
    network = build_network(Architecture.parse(TEXT), num_classes=3, use_se=True)
    return Trained(
        network.state_dict(), ("cat", "dog", "owl"), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), 0.9, "bicubic", 81.25
    )


def front_matter(folder: Path) -> dict:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    assert text.lstrip().startswith("# ")
    return yaml.safe_load(front)


def test_timm_builds_a_card_and_loads_its_weights(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    pytest.importorskip("safetensors")
    import zenopt.export.timm_model  # noqa: F401

    weights = trained()
    folder = write_card(BUNDLE, tmp_path / "card", name="card", trained=weights, license="apache-2.0")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    ours = build_network(Architecture.parse(TEXT), num_classes=3, use_se=True).eval()
    ours.load_state_dict(weights.weights)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model(images), ours(images))
    expected = timm.data.resolve_data_config(model=model)
    assert tuple(expected["input_size"]) == (3, 16, 16) and expected["crop_pct"] == 0.9
    assert tuple(expected["mean"]) == (0.4, 0.5, 0.6) and expected["interpolation"] == "bicubic"
    # Another number of classes keeps everything but the classifier.
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5)
    assert other(images).shape == (2, 5)
    torch.testing.assert_close(other.blocks[0][0].weight, weights.weights["blocks.0.0.weight"])


def test_torch_alone_loads_a_card(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    folder = write_card(BUNDLE, tmp_path / "card", name="card", trained=trained())
    text = (folder / "README.md").read_text()
    code = text.partition("With nothing but torch")[2].partition("```python\n")[2].partition("```")[0]
    check = "\nassert 'zenopt' not in __import__('sys').modules\nprint(sum(p.numel() for p in model.parameters()))"
    done = subprocess.run(
        [sys.executable, "-c", code + check], cwd=folder, capture_output=True, text=True, check=True
    )
    wanted = sum(value.numel() for key, value in trained().weights.items() if not _is_buffer(key))
    assert int(done.stdout) == wanted


def _is_buffer(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_the_front_matter_and_the_facts(tmp_path: Path) -> None:
    folder = write_card(BUNDLE, tmp_path, name="zen-small", trained=trained(), license="mit")
    front = front_matter(folder)
    assert front["library_name"] == "timm" and front["license"] == "mit"
    assert front["pipeline_tag"] == "image-classification" and "zenopt" in front["tags"]
    text = (folder / "README.md").read_text()
    for fact in (
        "| top-1 on test images | 81.25 % |",
        "| parameters | 1,234 |",
        TEXT,
        "trial 4 of the study `mine`",
    ):
        assert fact in text
    config = json.loads((folder / "config.json").read_text())
    assert config["model_args"] == {"family": "chain", "structure": TEXT, "use_se": True}
    assert config["label_names"] == ["cat", "dog", "owl"] and config["num_features"] == 24


def test_an_architecture_without_weights(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    import zenopt.export.timm_model  # noqa: F401

    folder = write_card(BUNDLE, tmp_path / "card", name="card")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.py"]
    assert "no weights" in (folder / "README.md").read_text() and "license" not in front_matter(folder)
    assert timm.create_model(f"local-dir:{folder}")(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_a_card_of_another_family(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    import zenopt.export.timm_model  # noqa: F401

    text = "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|"
    cell = Bundle(text, resolution=32, num_classes=10, family="nasbench201")
    folder = write_card(cell, tmp_path / "card", name="card")
    assert timm.create_model(f"local-dir:{folder}")(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_command_reads_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    write_bundle(BUNDLE, "bundle")
    weights = trained()
    from zenopt.train.networks import NetworkSource
    from zenopt.train.recipe import load_recipe

    content = {
        "model": weights.weights,
        "network": NetworkSource.from_structure(TEXT, 16, True).facts(),
        "recipe": load_recipe("basic").model_dump(mode="json"),
        "classes": ["cat", "dog", "owl"],
        "statistics": "cifar10",
        "top1": 77.0,
    }
    torch.save(content, "best.pt")
    main(["card", "bundle", "--weights", "best.pt", "--output", "card"])
    out, err = capsys.readouterr()
    assert out.startswith("card: README.md, config.json, model.py, model.safetensors")
    assert "Next:  huggingface-cli upload" in err
    config = json.loads(Path("card/config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == pytest.approx((0.4914, 0.4822, 0.4465))
    assert "# card" in Path("card/README.md").read_text()
    # A bundle of a second stage brings its own weights.
    Path("best.pt").rename("bundle/best.pt")
    main(["card", "bundle", "--output", "own", "--json"])
    assert "model.safetensors" in json.loads(capsys.readouterr().out)["files"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nothing", "--output", "card"), "nothing is not a bundle"),
        (("bundle", "--output", "card", "--weights", "none.pt"), "none.pt does not exist"),
        (("bundle", "--output", "card", "--weights", "text.pt"), "text.pt"),
        (("bundle", "--output", "bundle/README.md/x"), "Cannot write in"),
    ],
)
def test_bad_requests_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(BUNDLE, "bundle")
    Path("text.pt").write_text("no weights")
    with pytest.raises(SystemExit) as caught:
        main(["card", *arguments])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and complaint in err.splitlines()[-1] and "Traceback" not in err
