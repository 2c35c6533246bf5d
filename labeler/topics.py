"""Topics that an annotator is warned of and may avoid: tags of prompts, named in the study's plan."""

from collections.abc import Sequence
from typing import Any

from preferences.records import Annotator, Study
from preferences.store import Store

PLAN = "content_warnings"  # of a study's plan: tag -> what to say of it
AVOID = "avoid"  # of an annotator's settings: list of tags


def topics_json(studies: Sequence[Study], annotator: Annotator) -> list[dict[str, Any]]:
    """[{"tag", "text", "avoided"}] of those studies; of a topic that several name, what the first says of it."""
    avoided = annotator.settings.get(AVOID, [])
    topics: dict[str, str] = {}
    for study in studies:
        topics = {**study.plan.get(PLAN, {}), **topics}
    return [{"tag": tag, "text": text or tag, "avoided": tag in avoided} for tag, text in topics.items()]


def warnings_of(study: Study, tags: Sequence[str]) -> list[str]:
    """What to say before a prompt with those tags is shown."""
    warnings = study.plan.get(PLAN, {})
    return [warnings[tag] or tag for tag in tags if tag in warnings]


def give_back_avoided(store: Store, annotator: Annotator) -> None:
    """End the annotator's open leases on prompts with a tag that they avoid; their drafts stay."""
    avoided = set(annotator.settings.get(AVOID, []))
    with store.write():
        for lease in store.queue.all_held(annotator):
            if avoided & set(store.prompts.of_comparison(lease.comparison).tags):
                store.queue.release(lease)
