"""A plan as people read it."""

from trainer.plan import Planned, StagePlan


def as_text(planned: Planned) -> str:
    """What fits, where the memory of the tightest stage goes, what to give each stage, and what to change if need be."""
    config, tightest = planned.config, planned.tightest.as_json()
    fits = all(plan.fits for plan in planned.stages)
    size = planned.footprint
    lines = [
        f"{config.model} ({size.parameters / 1e9:.2f} billion parameters, {config.quantize}) "
        f"{'fits' if fits else 'does not fit'} on {config.vram:g} GiB, with {config.samples} answers of {config.response} "
        f"tokens to prompts of {config.prompt}.",
        "",
        f"{planned.tightest.stage} takes most, {tightest['total_gib']:.1f} GiB:",
        *(f"  {part.replace('_', ' '):<15}{gib:7.2f}" for part, gib in tightest["parts"].items()),
        "",
        *(stage_line(plan) for plan in planned.stages),
        "",
        f"Download {size.download:.1f} GiB, disk {size.disk:.1f} GiB, host RAM while loading {size.host:.1f} GiB.",
    ]
    if planned.time:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in planned.time.items())
        lines.append(f"Time of a PPO iteration (estimated for a card of the RTX 4090's class, not measured): {shares}.")
    lines += planned.notes
    lines += ["", "To make it fit:", *(f"  {sentence}" for sentence in planned.change)] if planned.change else []
    return "\n".join(lines)


def stage_line(plan: StagePlan) -> str:
    """A stage's batch and command line."""
    total = plan.tightest.total / 2**30
    if not plan.fits:
        return f"{plan.stage:<8}does not fit: one row takes {total:.1f} GiB"
    options = " ".join(option(name, value) for name, value in plan.options.items())
    return f"{plan.stage:<8}{total:5.1f} GiB, {plan.batch:3d} answers at once: trainer {plan.stage} {options}"


def option(name: str, value: object) -> str:
    """As on a command line."""
    flag = "--" + name.replace("_", "-")
    return flag if value is True else f"{flag} {value}"
