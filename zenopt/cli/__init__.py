"""The command line: one file per command, loaded only when it runs."""

from __future__ import annotations

import io
import sys
from difflib import get_close_matches
from importlib import import_module

import click

from zenopt._version import __version__
from zenopt.cli.completion import with_completion
from zenopt.cli.hints import IMPORTS_KEY
from zenopt.cli.study_choice import TYPED_KEY
from zenopt.core.errors import ZenoptError
from zenopt.core.text import one_line, printable_lines, quoted

#: Command -> (module:object, one line of help). The help stands here so that `zenopt --help` imports no command.
COMMANDS = {
    "init-study": ("zenopt.cli.init_study:init_study", "Write a study file with every field that fits."),
    "optimize": ("zenopt.cli.optimize:optimize", "Create or resume a study and add trials to it."),
    "studies": ("zenopt.cli.studies:studies", "List presets, or the studies in a storage."),
    "status": ("zenopt.cli.status:status", "Show the progress of a study and its best network."),
    "watch": ("zenopt.cli.watch:watch", "Follow a study that runs elsewhere."),
    "report": ("zenopt.cli.report:report", "Write a study as one HTML file."),
    "dashboard": ("zenopt.cli.dashboard:dashboard", "Serve studies to a browser on this machine."),
    "sample": ("zenopt.cli.sample:sample", "Draw architectures of a space within a budget."),
    "evaluate-architectures": (
        "zenopt.cli.evaluate_architectures:evaluate_architectures",
        "Evaluate a list of architectures.",
    ),
    "describe": ("zenopt.cli.describe:describe", "Show the layers and costs of a network."),
    "scale": ("zenopt.cli.scale:scale", "Make a network wider, deeper or larger in resolution."),
    "score": ("zenopt.cli.score:score", "Score a network by a training-free proxy."),
    "proxies": ("zenopt.cli.proxies:proxies", "List the proxies."),
    "components": (
        "zenopt.cli.components:components",
        "List what studies can name, and where it comes from.",
    ),
    "predict": (
        "zenopt.cli.predict:predict",
        "Predict the score of networks from what a study has evaluated.",
    ),
    "correlate": ("zenopt.cli.correlate:correlate", "Compare proxies with known accuracies."),
    "derive": ("zenopt.cli.derive:derive", "Print the best architectures of a study."),
    "export-best": ("zenopt.cli.export_best:export_best", "Score the best trials again and write a bundle."),
    "train": ("zenopt.cli.train:train_command", "Train a bundle or a structure."),
    "supernet": (
        "zenopt.cli.supernet:supernet",
        "Train all networks of a space in one set of weights.",
    ),
    "differentiable": (
        "zenopt.cli.differentiable:differentiable",
        "Search cells by gradients: DARTS and its relatives.",
    ),
    "verify": ("zenopt.cli.verify:verify", "Train the best trials briefly: what is their score worth?"),
    "evaluate": (
        "zenopt.cli.evaluate:evaluate_command",
        "Measure top-1, top-5 and throughput of trained weights.",
    ),
    "deploy": (
        "zenopt.cli.deploy:deploy_command",
        "Write TorchScript, torch.export or ONNX files of trained weights.",
    ),
    "card": ("zenopt.cli.card:card", "Write a bundle as a model card for the Hugging Face hub."),
    "models": ("zenopt.cli.models:models", "List the published ZenNets."),
    "doctor": ("zenopt.cli.doctor:doctor", "Check environment, devices and storage."),
    "serve-storage": (
        "zenopt.cli.serve_storage:serve_storage",
        "Serve a storage to workers on other machines.",
    ),
    "latency": ("zenopt.cli.latency:latency", "Measure, predict and calibrate latency."),
}


def with_imports(command: click.Command) -> click.Command:
    """Give a command, or every command of a group, the option ``--import``."""
    if isinstance(command, click.Group):
        for own in command.commands.values():
            with_imports(own)
    elif all("--import" not in parameter.opts for parameter in command.params):
        command.params.append(
            click.Option(
                ["--import", "modules"],
                multiple=True,
                metavar="MODULE",
                expose_value=False,
                is_eager=True,
                callback=_import_all,
                help="First import a module of your own, or a .py file: it registers blocks, spaces, proxies.",
            )
        )
    return command


def _import_all(ctx: click.Context, parameter: click.Parameter, modules: tuple[str, ...]) -> None:
    from zenopt.core.extensions import import_extension

    ctx.meta[IMPORTS_KEY] = modules
    for module in modules:
        import_extension(module)


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports them when they are used."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # For messages that show the command to type instead.
        ctx.meta[TYPED_KEY] = list(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        from zenopt.cli.options import with_finite_numbers

        return with_completion(with_imports(with_finite_numbers(command)))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            ctx.fail(f"No such command {args[0]!r}{hint}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


#: Below the list of commands.
_EPILOG = """\b
Begin with:  zenopt optimize --study demo --trials 5
             zenopt report --study demo
Completion:  eval "$(_ZENOPT_COMPLETE=bash_source zenopt)"   (or zsh, fish)
"""


@click.group(cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zenopt")
def cli() -> None:
    """The best image network that fits a budget, found without training."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    make_streams_patient()
    try:
        # Outside its standalone mode click returns the code of an Exit instead of raising it.
        code = cli.main(args=argv, prog_name="zenopt", standalone_mode=False)
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.ClickException as error:
        show_usage(error)
        sys.exit(2)
    except click.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe went away; there is nobody to tell.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        from zenopt.cli.options import wrapped

        click.echo(wrapped(f"Error: {one_line(message, LONGEST)}", stream=sys.stderr), err=True)
        sys.exit(2)


#: Characters of an error on the terminal; what is quoted in it may be of any length.
LONGEST = 1000


def make_streams_patient() -> None:
    """Make stdout and stderr write escaped what the locale's encoding has no character for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_usage(error: click.ClickException) -> None:
    """Show what is wrong with a command line; what it quotes is escaped."""
    text = io.StringIO()
    error.show(text)
    click.echo(printable_lines(text.getvalue().rstrip("\n")), err=True)


def explain(error: Exception) -> str | None:
    """Return what to tell a person of an error that input, a file or the machine caused; ``None`` if it is a bug."""
    if isinstance(error, ZenoptError | OSError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return (
            f"The text {quoted(error.object)} cannot be written as {error.encoding}; "
            "set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8."
        )
    if _is_out_of_memory(error):
        return f"Out of memory: the network or batch is too large for this machine ({one_line(str(error), 160)})."
    if _is_database_error(error):
        return f"The database failed: {' '.join(str(getattr(error, 'orig', error)).split())}"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    # torch reports its CPU's lack of memory, and sizes beyond any memory, as plain RuntimeErrors.
    said = (
        "can't allocate memory",
        "out of memory",
        "size calculation overflowed",
        "multiplication overflow",
    )
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in said)
    )


def _is_database_error(error: Exception) -> bool:
    sqlalchemy_errors = sys.modules.get("sqlalchemy.exc")
    optuna_errors = sys.modules.get("optuna.exceptions")
    return (sqlalchemy_errors is not None and isinstance(error, sqlalchemy_errors.SQLAlchemyError)) or (
        optuna_errors is not None and isinstance(error, optuna_errors.StorageInternalError)
    )
