"""``zenopt card``."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import json_option, print_json

if TYPE_CHECKING:
    from zenopt.export.bundle import Bundle
    from zenopt.export.card import Trained


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder of the card.",
)
@click.option(
    "--weights",
    type=click.Path(dir_okay=False, path_type=Path),
    help="best.pt or last.pt of a training run; else the bundle's own best.pt, if it has one.",
)
@click.option("--name", help="What the card is called; by default as its folder.")
@click.option(
    "--license", metavar="ID", help="Licence of the weights for the card's front matter, e.g. apache-2.0."
)
@json_option
def card(
    bundle: str, output: str, weights: Path | None, name: str | None, license: str | None, as_json: bool
) -> None:
    """Write a bundle as a model card for the Hugging Face hub: files only, nothing is uploaded.

    README.md with front matter, config.json, weights as safetensors, and model.py, which needs only torch. Once
    zenopt.export.timm_model is imported, timm loads the folder by "local-dir:DIR".

    \b
    zenopt card demo-bundle --weights runs/demo/best.pt --output demo-card
    """
    from zenopt.core.outputs import check_folder
    from zenopt.export.bundle import read_bundle

    # What is missing is said before torch is imported.
    found = read_bundle(bundle)
    own = (Path(bundle) if Path(bundle).is_dir() else Path(bundle).parent) / "best.pt"
    weights = weights or (own if own.is_file() else None)
    if weights is not None and not weights.is_file():
        raise click.UsageError(f"--weights {weights} does not exist.")
    if weights is not None and find_spec("safetensors") is None:
        raise click.UsageError(
            "A card with weights needs the package safetensors: pip install 'zenopt[train]'."
        )
    check_folder(output)
    from zenopt.export.card import write_card

    trained = None if weights is None else _trained(weights, found)
    folder = write_card(
        found, output, name=name or Path(output).resolve().name, trained=trained, license=license
    )
    files = sorted(path.name for path in folder.iterdir())
    if as_json:
        print_json(
            {"output": str(folder), "files": files, "weights": None if weights is None else str(weights)}
        )
        return
    click.echo(
        f"{folder}: {', '.join(files)}{'' if trained else ' (no weights: an architecture to be trained)'}"
    )
    if trained is None:
        say_next(
            (
                f"zenopt train --bundle {shlex.quote(bundle)} --data imagefolder:PATH --output runs/mine",
                "train it",
            )
        )
    else:
        say_next((f"huggingface-cli upload OWNER/NAME {shlex.quote(str(folder))}", "publish it"))


def _trained(path: Path, bundle: Bundle) -> Trained:
    """Return what a checkpoint of a training run holds; it must be of the bundle's network.

    Raises:
        CheckpointError: If it is no checkpoint of a run, or of another network.
    """
    from zenopt.export.card import Trained
    from zenopt.nn import build_network
    from zenopt.nn.weights import load_weights, read_torch_file
    from zenopt.spaces.registry import parse_architecture
    from zenopt.train.data import STATISTICS
    from zenopt.train.errors import CheckpointError
    from zenopt.train.recipe import Recipe

    content = read_torch_file(path)
    if not {"network", "recipe", "classes", "statistics"} <= content.keys():
        raise CheckpointError(f"{path} is not a checkpoint of a training run.")
    recipe = Recipe.model_validate(content["recipe"])
    network = build_network(
        parse_architecture(bundle.family, bundle.structure),
        num_classes=len(content["classes"]),
        use_se=bundle.use_se,
    )
    load_weights(network, path)
    mean, std = STATISTICS[content["statistics"] if recipe.normalize == "auto" else recipe.normalize]
    top1 = content.get("top1")
    return Trained(
        weights=network.state_dict(),
        classes=content["classes"],
        mean=mean,
        std=std,
        crop_ratio=recipe.evaluation.crop_ratio,
        interpolation=recipe.evaluation.interpolation,
        top1=None if top1 is None else float(top1),
    )
