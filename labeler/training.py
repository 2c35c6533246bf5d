"""What researchers see of training: the worker, its jobs, and what their runs log. Read from the store and run folders."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeGuard

from labeler.reports import report_of
from preferences.jobs import Job, KnownRun, KnownWorker
from preferences.run_files import ADAPTER, SAMPLES, config_of, holds_adapter, logged, tail
from preferences.store import Store
from preferences.tables.jobs import BESIDE, OWN_PROMPT, TOP_UP

ALIVE_SECONDS = 30.0
NEWEST, POINTS, LOOKS, LOG_LINES, RECENT = 50, 300, 20, 60, 10
ENSEMBLE = "ensemble.json"
MOST = 1e300  # of numbers that are shown
# Of each stage: the title of a plot, and the metrics that it shows.
PLOTS: dict[str, dict[str, tuple[str, ...]]] = {
    "sft": {"Loss": ("loss",), "Token accuracy": ("mean_token_accuracy",), "Gradient norm": ("grad_norm",)},
    "reward": {
        "Accuracy": ("accuracy", "validation/accuracy"), "Loss": ("loss", "validation/loss"),
        "Gradient norm": ("grad_norm",),
    },
    "ppo": {
        "Score": ("objective/scores",), "KL": ("objective/kl",), "Length": ("val/response_length",),
        "EOS rate": ("val/eos_rate",), "Entropy": ("policy/entropy_avg",),
        "Seconds per phase": ("seconds/generate", "seconds/score", "seconds/train"),
        "Clipped": ("policy/clipfrac_avg",), "Explained variance": ("val/explained_variance",),
    },
}  # fmt: skip
Points = list[tuple[float, float]]


def worker_json(store: Store) -> dict[str, Any] | None:
    """{"name", "alive", "seen", "model", "quantization", "device", "memory_gib"} of the newest worker, or None."""
    worker = store.workers.newest()
    if worker is None:
        return None
    about = {key: worker.about[key] for key in ("model", "quantization", "device", "memory_gib")}
    return {"name": worker.name, "alive": is_alive(store, worker), "seen": worker.seen or None, **about}


def is_alive(store: Store, worker: KnownWorker) -> bool:
    """Whether it was heard of lately."""
    return store.clock() - worker.seen < ALIVE_SECONDS


def is_far(worker: KnownWorker | None) -> bool:
    """Whether it is on another host: the name of its token stands before its own."""
    return worker is not None and "/" in worker.name


def waits_for(job: Job, worker: KnownWorker | None) -> str:
    """What a queued job waits for that `worker`, the newest, is not; or ""."""
    if job.status != "queued" or job.kind not in BESIDE or not is_far(worker):
        return ""
    return "It is for a worker beside the database; start `trainer worker` on the labeler's host."


def training_jobs(store: Store) -> list[Job]:
    """Every job but annotators' own prompts and what keeps comparisons waiting, oldest first."""
    return [job for job in store.jobs.all() if job.kind not in (OWN_PROMPT, TOP_UP)]


def jobs_json(store: Store) -> dict[str, Any]:
    """{"worker", "jobs"}: the newest jobs first, those that wait with their place in the queue, and what they wait for."""
    jobs, worker = training_jobs(store), store.workers.newest()
    queued = [job.id for job in jobs if job.status == "queued"]
    return {
        "worker": worker_json(store),
        "jobs": [
            {
                **row_json(job),
                "place": queued.index(job.id) + 1 if job.id in queued else None,
                "waits": waits_for(job, worker),
            }
            for job in reversed(jobs[-NEWEST:])
        ],
    }


def row_json(job: Job) -> dict[str, Any]:
    """A line of the list: id, kind, run, status, created, started, finished, error, step, steps, eta."""
    lines = logged(Path(folder)) if job.status == "running" and (folder := job.progress.get("folder")) else []
    return {
        "id": job.id,
        "kind": job.kind,
        "run": name_of(job),
        "status": job.status,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "error": job.error,
        **far(lines, job.started or 0.0),
    }


def name_of(job: Job) -> str:
    """Of the run that it makes or is about, of the stage that a plan is of, or none."""
    spec = job.spec
    if "adapter" in spec:
        adapter = Path(spec["adapter"])
        own = adapter.name == ADAPTER  # else it is a checkpoint's, in a folder of its number beside those of the others
        return adapter.parent.name if own else f"{adapter.parent.parent.name}@{adapter.name.lstrip('0')}"
    return Path(spec.get("out") or spec.get("run") or "").name or str(spec.get("policy") or spec.get("stage", ""))


def far(lines: Sequence[dict[str, Any]], since: float) -> dict[str, Any]:
    """{"step", "steps", "eta"}: how far a run is and how many seconds it will take, by its last steps; None if unknown."""
    steps = [line for line in lines if all(is_number(line.get(name)) for name in ("step", "steps", "time"))]
    if not steps:
        return {"step": None, "steps": None, "eta": None}
    done, total = steps[-1]["step"], steps[-1]["steps"]
    times = [line["time"] for line in steps if line["time"] >= since][-RECENT:]
    gaps = [after - before for before, after in pairwise(times)]
    return {"step": done, "steps": total, "eta": median(gaps) * (total - done) if gaps else None}


def job_json(store: Store, job: Job) -> dict[str, Any]:
    """A job in full: its line, "by", "waits", "options", "plots", "looks", "log", "facts", "report", "plan", "command"."""
    folder = job.progress.get("folder")
    document = (config_of(Path(folder)) if folder else None) or {}
    lines = logged(Path(folder)) if folder else []
    looks = [look for look in logged(Path(folder), SAMPLES)[-LOOKS:] if are_looks(look)] if folder else []
    return {
        **row_json(job),
        **(far(lines, job.started or 0.0) if lines else {}),
        "by": launched_by(store, job),
        "waits": waits_for(job, store.workers.newest()),
        "options": {key: value for key, value in job.spec.items() if key != "out"},
        "plots": plots(job.kind, lines),
        "looks": [{"step": look["step"], "rows": look["samples"]} for look in looks],
        "log": tail(Path(log), LOG_LINES) if (log := job.progress.get("log")) else [],
        "facts": facts(document) or outcome(job.progress.get("result", {})),
        "report": report_link(store, job),
        "plan": {key: job.progress[key] for key in ("plan", "text")} if "plan" in job.progress else None,
        "command": document.get("command"),
    }


def launched_by(store: Store, job: Job) -> str:
    """The name of whoever launched it, or "" if a program did."""
    events = store.events.about(job.id, "job launched")
    account = store.annotators.find(events[0].actor) if events else None
    return account.name if account else ""


def plots(kind: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """[{"title", "series": [{"name", "points": [[step, value], ...]}]}], those without a point left out."""
    made = []
    for title, metrics in PLOTS.get(kind, {}).items():
        series = [one for metric in metrics for one in series_of(metric, lines)]
        if series:
            made.append({"title": title, "series": series})
    return made


def series_of(metric: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metric's points, of each member of an ensemble apart."""
    points: dict[str, Points] = {}
    for line in lines:
        value = line.get(metric)
        if is_number(value) and isinstance(line.get("step"), int):
            points.setdefault(str(line.get("role", "")), []).append((line["step"], float(value)))
    short = metric.rsplit("/", 1)[-1] if metric.startswith("seconds/") else metric.replace("/", " ")
    return [
        {"name": f"{short} ({role})" if len(points) > 1 else short, "points": thinned(of_role)}
        for role, of_role in points.items()
    ]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a page can show it as one. Lines that come from another host may have anything anywhere."""
    return isinstance(value, int | float) and -MOST < value < MOST


def are_looks(look: dict[str, Any]) -> bool:
    """Whether it has the sample answers of a step."""
    rows = look.get("samples")
    return is_number(look.get("step")) and isinstance(rows, list) and all(is_sample(row) for row in rows)


def is_sample(row: Any) -> bool:
    """Whether it is an answer with its score and KL."""
    return isinstance(row, dict) and is_number(row.get("score")) and is_number(row.get("kl"))


def thinned(points: Points) -> Points:
    """At most POINTS of them, the last one always."""
    every = -(-len(points) // POINTS)
    return points if every <= 1 else [*points[:-1][::every], points[-1]]


def facts(document: dict[str, Any]) -> list[list[str]]:
    """What came out of a run, as pairs of words."""
    found = []
    for key, title in (
        ("state", "State"), ("comparisons", "Comparisons"), ("rankings", "Rankings"), ("demonstrations", "Demonstrations"),
        ("prompts", "Prompts"), ("data_hash", "Data"), ("loss", "Training loss"), ("train_accuracy", "Accuracy in training"),
        ("objective/scores", "Last score"), ("objective/kl", "Last KL (nats an answer)"), ("error", "Why it failed"),
    ):  # fmt: skip
        value = document.get(key)
        if value is not None:
            found.append([title, f"{value:.3g}" if isinstance(value, float) else str(value)])
    held = document.get("heldout_accuracy")
    if held and held.get("value") is not None:
        found.append(["Held-out accuracy", f"{held['value']:.3f} ({held['low']:.3f} to {held['high']:.3f})"])
    return found


def outcome(result: dict[str, Any]) -> list[list[str]]:
    """What came out of a job without a run of its own, as pairs of words."""
    found = []
    for key, title in (
        ("policy", "Policy"), ("against", "Against"), ("prompts", "Held-out prompts"), ("queued", "Queued for people"),
        ("equal", "Equal answers, which are ties"), ("win_rate", "Wins in the eyes of the reward"),
        ("human", "Prompts that people answered"), ("scored", "Answers scored"), ("recommended", "Recommended"),
        ("accuracy", "Held-out accuracy"),
    ):  # fmt: skip
        value = result.get(key)
        if value is not None:
            found.append([title, words_of(value)])
    for name, other in result.get("others", {}).items():
        wins = f"; wins {words_of(other['win_rate'])} in the eyes of the reward" if other.get("win_rate") else ""
        found.append([f"Also {name}", f"{other['length']:.0f} tokens an answer{wins}"])
    return found + [["Warning", text] for text in result.get("warnings", [])]


def words_of(value: Any) -> str:
    """An estimate with its interval, counts by kind, a recommended checkpoint with its reason, or the value itself."""
    if not isinstance(value, dict):
        return str(value)
    if "reason" in value:
        return f"{value['name']}. {value['reason']}"
    if "low" in value:
        if value["value"] is None:
            return "unknown"
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return ", ".join(f"{count} {kind}" for kind, count in value.items()) or "none"


def report_link(store: Store, job: Job) -> str | None:
    """The id of the run that the job made or reports, if that has a report."""
    folder = job.spec.get("run") or job.spec.get("out")
    wanted = str(Path(folder).resolve()) if folder else None
    return next((run.id for run in store.runs.all() if run.folder == wanted and report_of(run)), None)


def rewards(store: Store) -> list[dict[str, Any]]:
    """[{"value" (the adapter's folder), "name"}] of the reward models there are, and of those that are under way."""
    found = [
        {"value": str(Path(run.folder) / ADAPTER), "name": Path(run.folder).name}
        for run in store.runs.all()
        if run.stage == "reward" and is_there(run)
    ]
    return found + coming(store, found, "reward", ADAPTER)


def adapters(store: Store) -> list[dict[str, Any]]:
    """The same of policies that were trained, the newest first; a checkpoint of a run is one too."""
    found = [
        {"value": policy.adapter, "name": f"{policy.name} ({policy.kind})"}
        for policy in reversed(store.policies.all())
        if policy.adapter and policy.parent and holds_adapter(Path(policy.adapter))
    ]
    return coming(store, found, "ppo", ADAPTER) + found


def reported(store: Store) -> list[dict[str, Any]]:
    """The same of runs that can be reported, the newest first; `value` is the run's folder."""
    found = [
        {"value": run.folder, "name": f"{Path(run.folder).name} ({run.stage})"}
        for run in reversed(store.runs.all())
        if run.stage in ("reward", "ppo") and run.document["state"] == "finished" and is_there(run)
    ]
    return coming(store, found, "ppo", "") + found


def coming(store: Store, found: list[dict[str, Any]], kind: str, inside: str) -> list[dict[str, Any]]:
    """What is launched and not among those that were found. `inside`: the part of a run's folder that is chosen."""
    known = {one["value"] for one in found}
    return [
        {"value": value, "name": f"{Path(job.spec['out']).name} (once it is trained)"}
        for job in training_jobs(store)
        if job.kind == kind and job.status in ("queued", "running") and "out" in job.spec
        and (value := str(Path(job.spec["out"]) / inside)) not in known
    ]  # fmt: skip


def is_there(run: KnownRun) -> bool:
    """Whether the run's folder still has what was trained."""
    folder = Path(run.folder) / ADAPTER
    return holds_adapter(folder) or (folder / ENSEMBLE).is_file()
