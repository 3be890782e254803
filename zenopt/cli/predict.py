"""``zenopt predict``."""

from __future__ import annotations

from typing import Any

import click

from zenopt.cli.options import (
    json_option,
    print_json,
    show_warnings,
    storage_option,
    study_option,
    table,
    wrapped,
)
from zenopt.cli.study_choice import chosen_study
from zenopt.core.text import printable
from zenopt.core.words import plural
from zenopt.progress.panel import Panel


@click.command()
@study_option
@click.argument("networks", nargs=-1, required=True, metavar="STRUCTURE|FILE|BUNDLE|NAME...")
@click.option(
    "--probability",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="Of the value of a training to lie in the interval.",
)
@storage_option
@json_option
def predict(
    name: str | None, networks: tuple[str, ...], probability: float, storage: str, as_json: bool
) -> None:
    """Predict the score of networks from what a study has evaluated.

    The study may have any sampler; most is learned where its trials are trainings. An interval is of what one
    evaluation will show.

    \b
    zenopt predict --study cifar-small bundle other.txt
    zenopt predict --study nasbench201-table --json \\
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    """
    from zenopt.core.errors import StructureError
    from zenopt.core.text import quoted
    from zenopt.export.names import resolve
    from zenopt.study.prediction import predict_networks
    from zenopt.study.study import open_existing, read_spec

    show_warnings()
    study = chosen_study(open_existing(storage), name)
    spec = read_spec(study)
    assert spec is not None
    space = spec.space.build()
    architectures: list[Any] = []
    for text in networks:
        # The study's own family first: short texts may be read by several.
        try:
            found = space.parse(text)
        except StructureError:
            if space.recognises(text):
                raise
            found = resolve(text).architecture
        if found is None:
            raise StructureError(
                f"{quoted(text)} is a library's model; a study predicts networks of its space."
            )
        architectures.append(found)
    with Panel(quiet=as_json) as panel:
        # With hundreds of trials the predictor takes its time.
        panel.note(f"Learning from study {study.study_name}.")
        panel.start(None, "")
        result = predict_networks(study, spec, architectures, probability=probability)
    if as_json:
        print_json(
            {
                "study": study.study_name,
                "value": spec.evaluator().label(spec),
                "probability": probability,
                "learned_from": {"full": result.full, "short": result.short},
                "record": result.record,
                "networks": [own.to_json() for own in result.networks],
            }
        )
        return
    header = ("mean", f"{probability:.0%} interval", "known", "network")
    rows = [
        (f"{own.mean:.4g}", f"{own.low:.4g} .. {own.high:.4g}", str(own.trained), own.structure)
        for own in result.networks
    ]
    click.echo(table(rows, header))
    short = f" and {plural(result.short, 'shorter one')}" if result.short else ""
    origin = f"Learned from {plural(result.full, 'evaluation')}{short} of study {study.study_name}"
    click.echo(wrapped(printable(f"{origin}: {spec.evaluator().label(spec)}.")))
    click.echo(
        wrapped(
            f"Known: how many of them were of this network. The predictor {result.record.splitlines()[0]}."
        )
    )
