"""Commands run in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from zenopt.cli import cli, explain


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def refusal(*words: object) -> str:
    """Return the line that a command ends with."""
    result = run(*words)
    assert result.exit_code != 0
    if isinstance(result.exception, SystemExit):
        return result.output
    said = explain(result.exception)  # type: ignore[arg-type]
    assert said is not None and "\n" not in said, result.exception
    return said
