"""Whether the annotators of a study will soon have nothing to rank."""

from preferences.records import Study
from preferences.store import Store

ACTIVE_SECONDS = 30 * 60


def is_short(store: Store, study: Study, each: int) -> bool:
    """Whether fewer comparisons wait than so many for each annotator who was active in the last half hour.

    What is left over from earlier policies does not count. Also whether one of them has fewer before them: what still
    waits for others may be what they have ranked already.
    """
    active = store.annotators.active(store.clock() - ACTIVE_SECONDS)
    enough = each * max(1, len(active))
    if store.queue.waiting(study) < enough or store.promotions.fresh(study, enough) < enough:
        return True
    return any(
        len(store.queue.candidates(study, annotator, each)) < each
        for annotator in active
        if not store.queue.refusal(study, annotator) and store.queue.has_prompts_for(study, annotator)
    )
