"""What people see on a real terminal, 80 and 120 columns wide, and in a notebook: pipes hide what breaks there."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structures import TINY_QUARTERED

from zenopt.train.progress import Bar, Lines, Page, Silent, observer, summary

pytest.importorskip("pty")
pytest.importorskip("pyte")

from notebooks import notebook_of, run_notebook
from terminal import Terminal, on_terminal

ROOT = Path(__file__).resolve().parents[2]
TINY = TINY_QUARTERED
NETWORK = ["--structure", TINY, "--resolution", "32", "--device", "cpu"]


def zenopt(columns: int, cwd: Path, *arguments: str) -> tuple[int, Terminal, list[str]]:
    command = [sys.executable, "-m", "zenopt", *arguments]
    return on_terminal(command, columns, cwd=cwd, PYTHONPATH=str(ROOT))


def seen(screen: Terminal) -> set[str]:
    return {line for frame in screen.frames for line in frame}


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.slow)])
def test_training_evaluating_and_deploying_on_a_terminal(tmp_path: Path, columns: int) -> None:
    data = ["--data", "synthetic:640"]
    code, screen, too_long = zenopt(
        columns,
        tmp_path,
        "train",
        *NETWORK,
        *data,
        "--epochs",
        "2",
        "--set",
        "batch_size=32",
        "--output",
        "run",
    )
    assert code == 0 and "Traceback" not in screen.text, screen.text
    assert too_long == [], "lines longer than the terminal"
    bars = [line for line in seen(screen) if line.startswith("epoch 1/2 ") and "━" in line]
    assert any(re.search(r"step \d+/20 loss \d\.\d{4}  lr 0\.\d+", line) for line in bars), seen(screen)
    finished = [line for line in screen.text.splitlines() if re.match(r"epoch [12]/2  train loss", line)]
    assert len(finished) == 2 and all("top-1" in line for line in finished)
    assert f"zenopt deploy --weights {Path('run') / 'best.pt'}" in screen.text

    code, screen, too_long = zenopt(
        columns, tmp_path, "evaluate", "--weights", "run/best.pt", *data, "--batch-size", "8"
    )
    assert code == 0 and too_long == [], screen.text
    assert any("test images" in line and "━" in line for line in seen(screen)), seen(screen)
    assert "top-1" in screen.text and "test images" not in screen.text, "the bar goes when it is done"

    code, screen, too_long = zenopt(
        columns,
        tmp_path,
        "deploy",
        "--weights",
        "run/best.pt",
        *data,
        "--format",
        "torchscript",
        "--output",
        "out",
    )
    assert code == 0 and "Traceback" not in screen.text, screen.text
    assert any("network.pt: test images" in line for line in seen(screen)), seen(screen)
    assert "torchscript" in screen.text and "━" not in screen.text


def test_a_resumed_run_shows_where_it_goes_on(tmp_path: Path) -> None:
    common = ["train", *NETWORK, "--data", "synthetic:320", "--set", "batch_size=32", "--output", "run"]
    zenopt(80, tmp_path, *common, "--epochs", "2")
    saved = (tmp_path / "run" / "last.pt").read_bytes()
    code, screen, _ = zenopt(80, tmp_path, *common, "--epochs", "2", "--resume")
    assert code == 0 and "Resumed after 2 epochs" in screen.text and "Traceback" not in screen.text
    assert (tmp_path / "run" / "last.pt").read_bytes() == saved


ROW: dict[str, Any] = {
    "epoch": 3, "train_loss": 1.5, "test_loss": 1.25, "top1": 55.5, "top5": 90.0, "lr": 0.1,
    "images_per_second": 1234.0, "seconds": 9.5,
}  # fmt: skip


def test_a_line_of_an_epoch_fits_the_terminal() -> None:
    whole = summary(ROW, 10)
    assert whole == (
        "epoch 3/10  train loss 1.5000  test loss 1.2500  top-1 55.50 %  top-5 90.00 %  lr 0.1  1234 images/s  9.5 s"
    )
    for width in (60, 80, 100):
        cut = summary(ROW, 10, width)
        assert len(cut) <= width and "top-1 55.50 %" in cut and "9.5 s" in cut
    assert "test" not in summary({**ROW, "top1": None, "test_loss": None}, 10)
    huge = summary({**ROW, "test_loss": 9.8e27, "train_loss": 18864831672792.5}, 10)
    assert "held-back loss 1.2500" in summary(ROW, 10, judged_on="held-back")
    assert "test loss 9.8e+27" in huge and "train loss 1.886e+13" in huge


def drive(watcher: Any) -> None:
    """Tell an observer of everything there is to tell."""
    watcher.note("a note with [brackets] & <tags>")
    for epoch in (1, 2):
        watcher.start(epoch, 2, 4, 0)
        for done in range(1, 5):
            watcher.step(done, 1.0 / done, 0.1)
        watcher.work("test images", 5, 10)
        watcher.work("test images", 10, 10)
        watcher.end({**ROW, "epoch": epoch})
    watcher.work("writing network.onnx", 0, None)
    watcher.work("another file", 1, 3)
    watcher.close()


def test_every_observer_bears_everything(capsys: pytest.CaptureFixture[str]) -> None:
    for watcher in (Silent(), Lines(interval_s=0.0), Bar()):
        drive(watcher)
    text = capsys.readouterr().err
    assert "epoch 2/2  step 4/4  loss 0.2500  lr 0.1" in text and "[brackets] & <tags>" in text
    assert isinstance(observer(shown=False), Silent) and isinstance(observer(shown=True), Lines)


def test_a_notebook_shows_a_table_without_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    import IPython.display

    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, content: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown.append(content)

    monkeypatch.setattr(IPython.display, "display", lambda *content, **options: Handle())
    # Time stands still: it is drawn at once at every note and end of an epoch, else at most twice a second.
    monkeypatch.setattr("zenopt.train.progress.time", SimpleNamespace(monotonic=lambda: 1000.0))
    drive(Page())
    assert "[brackets] &amp; &lt;tags&gt;" in shown[-1]["text/html"]
    assert shown[-1]["text/html"].count("<tr>") == 3 and "epoch 2/2, step 4/4" in shown[-1]["text/html"]
    assert "top-1 55.50 %" in shown[-1]["text/plain"]
    assert len(shown) == 4


@pytest.mark.slow
def test_a_notebook_trains_without_warnings(tmp_path: Path) -> None:
    code = f"""
    import tempfile
    from pathlib import Path
    import torch
    import zenopt
    from zenopt.train.distributed import World
    from zenopt.train.networks import NetworkSource
    from zenopt.train.progress import observer
    from zenopt.train.recipe import load_recipe
    from zenopt.train.run import train
    zenopt.optimize  # imports Optuna, and with it tqdm's notebook part
    source = NetworkSource.from_structure("{TINY}", 32)
    watcher = observer(shown=True)
    train(source, "synthetic:64", load_recipe("basic", epochs=2), output=Path(tempfile.mkdtemp()) / "run",
          world=World(0, 1, torch.device("cpu")), observer=watcher)
    watcher.close()
    """
    notebook = notebook_of(textwrap.dedent(code))
    run_notebook(notebook, tmp_path)
    outputs = notebook.cells[0].outputs
    assert not [out for out in outputs if out.output_type == "stream" and "Warning" in out.text]
    tables = [out.data["text/html"] for out in outputs if out.output_type == "display_data"]
    assert len(tables) == 1 and tables[0].count("<tr>") == 3
