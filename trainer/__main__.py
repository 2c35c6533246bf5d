"""The command line: trainer sft | sample | reward | ppo | evaluate | check | report | export | worker | plan | doctor."""

import json
import os
import warnings
from typing import Annotated, Any, NoReturn

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, subcommand

from preferences.cli import guarded, print_json, say
from trainer import plan_text
from trainer.check import Check
from trainer.doctor import Doctor, doctor
from trainer.doctor import as_json as findings_as_json
from trainer.doctor import as_text as findings_as_text
from trainer.evaluate import EvaluatePolicy, EvaluateReward
from trainer.export import Export, export
from trainer.plan import Plan, plan
from trainer.ppo import Ppo
from trainer.report import Report
from trainer.report import report as write_report
from trainer.reward import Reward
from trainer.selecting import Select
from trainer.sft import Sft
from trainer.stage import stop_on_sigterm
from trainer.stages import run
from trainer.worker import Worker, work

Evaluate = Annotated[
    Annotated[EvaluateReward, subcommand("reward")] | Annotated[EvaluatePolicy, subcommand("policy")],
    subcommand("evaluate"),
]
Command = (
    Annotated[Sft, subcommand("sft")]
    | Annotated[Select, subcommand("sample")]
    | Annotated[Reward, subcommand("reward")]
    | Annotated[Ppo, subcommand("ppo")]
    | Annotated[Check, subcommand("check")]
    | Annotated[Worker, subcommand("worker")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Doctor, subcommand("doctor")]
    | Evaluate
)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command that `args` (by default the process's own) name."""
    guarded(lambda: obey(args))


def obey(args: list[str] | None) -> None:
    """Parse, run, report."""
    warnings.filterwarnings(
        "ignore", "`is_gradient_checkpointing`", FutureWarning
    )  # peft asks transformers the old way
    command: Any = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="trainer",
        description="From rankings to a reward model and a better policy, on one frozen base.",
        args=args,
        config=(OmitSubcommandPrefixes, OmitArgPrefixes, FlagCreatePairsOff),
    )
    if isinstance(command, Plan):
        planned = plan(command)
        say(planned.as_json(), plan_text.as_text(planned), command.json)
    elif isinstance(command, Doctor):
        findings = doctor(command)
        say(findings_as_json(findings), findings_as_text(findings), command.json)
    else:
        result = result_of(command)
        if result is not None:
            report(command, result)


def result_of(command: Any) -> dict[str, Any] | None:
    """Do what it says; None on a process that leaves the answer to the main one."""
    if isinstance(command, Worker):
        return work(command)
    if isinstance(command, Export):
        return export(command)
    if isinstance(command, Report):
        return write_report(command)
    with stop_on_sigterm():
        return run(command)


def report(command: Any, result: dict[str, Any]) -> None:
    """Print what a command found, as JSON alone or as lines."""
    if command.json:
        print_json(result)
        return
    for name, value in result.items():
        print(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")


if __name__ == "__main__":
    main()
