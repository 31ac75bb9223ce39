"""The command line: one file per verb, loaded when used. Verbs, flags and output follow kubectl's.

A start imports click and little else: no asyncio, ssl, yaml, pyroute2. Errors become `error: ...` and `hint: ...` here, once.
Exit codes: 0, 1 for an error, 2 for wrong usage, a command's own for exec and run.
"""

from __future__ import annotations

import errno
import os
import sys

from minipod.cli.lean_click import click
from minipod.errors import MinipodError

# Verb (and module) -> one line of help: the help of the group imports none of them.
VERBS = {
    "up": "Start the node in the background.",
    "down": "Stop pods gracefully, then the node.",
    "reset": "Stop everything and remove all state.",
    "status": "Show whether the node runs, and how.",
    "run": "Run a manifest, or an image, to its end; exit with the pod's code.",
    "apply": "Create what a manifest describes.",
    "get": "List objects.",
    "describe": "Show pods and their events.",
    "why": "Explain why a pod is not ready, restarting or pending.",
    "inspect": "Show what a pod's containers share: namespaces, cgroups.",
    "steps": "Show how a container was made, step by step.",
    "logs": "Print a container's log.",
    "exec": "Run a command in a container.",
    "attach": "Follow a running container's output, and write to its stdin.",
    "debug": "Look around in a pod, a copy of it, or the node.",
    "cp": "Copy files in and out of a container.",
    "port-forward": "Forward local ports to a pod.",
    "delete": "Delete objects.",
    "events": "List events.",
    "wait": "Wait for a condition.",
    "image": "List, build, pull, push and remove images.",
    "kubeconfig": "Print the path of a kubeconfig for kubectl.",
    "config": "Print every effective setting and where it came from.",
    "doctor": "Check what of the machine works.",
    "cri": "Serve the CRI, for a kubelet or crictl.",
    "install-service": "Run the node under systemd.",
    "completion": "Print a shell completion script.",
    "version": "Print the version.",
}

# What fingers that know Docker (or more of kubectl) type -> what they mean.
MEANT = {
    "ps": "get pods", "images": "image ls", "pull": "image pull IMAGE", "push": "image push IMAGE",
    "build": "image build DIRECTORY", "rmi": "image rm IMAGE", "rm": "delete pod NAME",
    "stop": "delete pod NAME", "kill": "delete pod NAME --grace-period=0 --force", "start": "apply -f FILE",
    "create": "apply -f FILE", "top": "kubeconfig (then kubectl top pods)",
}  # fmt: skip
# What only kubectl does.
KUBECTL = (
    "annotate", "api-resources", "auth", "certificate", "cordon", "diff", "drain", "edit", "explain", "expose", "label",
    "patch", "proxy", "replace", "rollout", "scale", "set", "taint", "uncordon",
)  # fmt: skip
MEANT |= {verb: f"kubeconfig (then kubectl {verb})" for verb in KUBECTL}


class Verbs(click.Group):
    """Loads a verb's module only when it is used."""

    verbs = VERBS

    def load(self, verb: str) -> click.Command:
        """Import the command of *verb*."""
        module = __import__(f"minipod.cli.{verb.replace('-', '_')}", fromlist=["command"])
        command: click.Command = module.command
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.load(cmd_name) if cmd_name in self.verbs else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.verbs.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, command, rest = super().resolve_command(ctx, args)
            return name, command, rest if command is None else plain_flags(command, rest)
        except click.UsageError as e:
            import difflib  # only for a typing error

            if self.verbs is VERBS and (meant := MEANT.get(args[0])):
                raise click.UsageError(f"{e.message} Try: minipod {meant}", ctx) from None
            near = difflib.get_close_matches(args[0], self.verbs, 1)
            if near:
                raise click.UsageError(f"{e.message} Did you mean {near[0]!r}?", ctx) from None
            raise


def plain_flags(command: click.Command, words: list[str]) -> list[str]:
    """Return *words* with each `--wait=false` and `--force=true`, which kubectl takes and click does not, as `--no-wait`, `--force`."""
    flags = {
        name: param
        for param in command.params
        if isinstance(param, click.Option) and param.is_flag
        for name in param.opts
    }
    found: list[str] = []
    for at, word in enumerate(words):
        if word == "--":
            return found + words[at:]
        name, _, value = word.partition("=")
        if value not in ("true", "false") or name not in flags:
            found.append(word)
        elif value == "true":
            found.append(name)
        else:
            found += flags[name].secondary_opts[:1]  # without one it is off anyway
    return found


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--instance", metavar="NAME", help="Which node (default: minipod).")
@click.option("--config", "config_file", metavar="FILE", help="Default: /etc/minipod/minipod.toml.")
@click.pass_context
def group(ctx: click.Context, instance: str | None, config_file: str | None) -> None:
    """Run Kubernetes pods on one Linux machine, without Kubernetes."""
    ctx.obj = {"name": instance, "config": config_file}


def main() -> int:
    """Run, and turn errors into messages; return the exit code."""
    try:
        code: object = _run()
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except MinipodError as e:
        return fail(e)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        return fail(of_the_machine(e))
    except SystemExit as e:
        code = e.code
    return code if isinstance(code, int) else 0


def _run() -> object:
    """Return what the verb does, with all that it printed on its way."""
    try:
        return group(standalone_mode=False)
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # was it open?
                stream.flush()


HINTS = {
    errno.ENOSPC: "make room on the disk (df), or set state_root in minipod.toml; minipod image prune",
    errno.EDQUOT: "make room on the disk (quota), or set state_root in minipod.toml",
    errno.EROFS: "set state_root (and run_root) in minipod.toml to what can be written",
}


def of_the_machine(e: OSError) -> MinipodError:
    """Return what the kernel refused as an error with its place and, where there is one, its remedy."""
    place = f"{os.fsdecode(e.filename)}: " if isinstance(e.filename, str | bytes) else ""
    hint = HINTS.get(e.errno or 0, "")
    if e.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        hint = "minipod must run as root: try it with sudo"
    return MinipodError(place + (e.strerror or str(e)).lower(), hint=hint)


def fail(e: MinipodError) -> int:
    """Print an error and its hint; return the exit code."""
    click.echo(f"error: {e.message}", err=True)
    if e.hint:
        click.echo(f"hint: {e.hint}", err=True)
    return 1
