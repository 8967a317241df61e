"""`avar teacher`: serve one, and see what one supports."""

from __future__ import annotations

import click

from flows.commands import json_option, open_console, write_json_line


@click.group()
def teacher() -> None:
    """Serve a teacher, or see what one supports."""


@teacher.command()
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--vllm", "executable", default=None, help="The vllm program; .venv-vllm/bin/vllm by default.")
@click.option("--tensor-parallel-size", type=click.IntRange(min=1), help="GPUs that share a model.")
@click.option("--data-parallel-size", type=click.IntRange(min=1), help="Copies of the model.")
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Requests computed at one time.")
@click.option("--dry-run", is_flag=True, help="Print the command with its environment and start nothing.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def serve(
    model: str,
    host: str,
    port: int,
    executable: str | None,
    dry_run: bool,
    flags: tuple[str, ...],
    **sizes: int | None,
) -> None:
    """Serve MODEL with vLLM, or avar's own teacher where MODEL is `embedded`. Flags after -- go to vllm.

    \b
    Example:
        avar teacher serve Qwen/Qwen2.5-VL-72B-Instruct --tensor-parallel-size 8 -- --max-model-len 32768
        avar teacher serve embedded --port 8001
    """
    from flows.teacher_server import ServerPlan, serve_embedded, serve_vllm, show_command

    given = [(f"--{name.replace('_', '-')}", str(size)) for name, size in sizes.items() if size is not None]
    words = (*(word for pair in given for word in pair), *flags)
    plan = ServerPlan(model=model, host=host, port=port, executable=executable, flags=words)
    if dry_run:
        click.echo(show_command(plan))
    elif model == "embedded":
        serve_embedded(plan)
    else:
        serve_vllm(plan)


@teacher.command()
@click.argument("url")
@click.option("--model", default=None, help="Served name; by default the one the server lists.")
@click.option("--api-key-env", default=None, metavar="NAME", help="Variable that holds the server's key.")
@click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds each question may take.",
)
@json_option
def check(url: str, model: str | None, api_key_env: str | None, timeout_s: float, as_json: bool) -> None:
    """Send a small image to the server at URL and say what it supports.

    \b
    Example:
        avar teacher check http://127.0.0.1:8000
    """
    from flows.teacher_check import check_teacher, print_findings

    findings = check_teacher(url, model=model, api_key_env=api_key_env, timeout_s=timeout_s)
    if as_json:
        write_json_line(findings.to_dict())
    else:
        print_findings(open_console(), findings)
    findings.require_stages()
