"""Live bytes, against sizes that one can add up by hand."""

import torch

from trainer.live_bytes import REST, LiveBytes
from trainer.tally import DEQUANTISED, LOGITS, WEIGHTS, Tally

KIB = 1024


def test_the_peak_is_what_lived_at_once() -> None:
    with LiveBytes() as live:
        a = torch.zeros(256)  # 1 KiB
        b = torch.zeros(512)
        del a
        c = torch.zeros(128)
    assert (live.now, live.peak) == (2.5 * KIB, 3 * KIB)
    del b, c
    assert live.now == 0


def test_views_and_work_in_place_take_nothing() -> None:
    with LiveBytes() as live:
        a = torch.zeros(256)
        a.view(16, 16).t()[0].add_(1)
    assert live.peak == KIB


def test_parts_add_up_to_the_peak_and_can_be_renamed() -> None:
    with LiveBytes() as live:
        with live.part(WEIGHTS):
            a = torch.zeros(256)
        b = torch.zeros(512)
        live.move([b], "kept")
        c = torch.zeros(128)
    assert live.parts_at_peak == {WEIGHTS: KIB, "kept": 2 * KIB, REST: KIB // 2}
    del a, b, c
    assert sum(live.parts.values()) == 0


def test_a_new_look_forgets_the_old_peak() -> None:
    with LiveBytes() as live:
        torch.zeros(1024)
        live.restart()
        kept = torch.zeros(256)
    assert live.peak == KIB
    del kept


def test_logits_are_known_by_the_vocabulary_and_dequantised_weights_by_their_cast() -> None:
    with Tally(100, gpu=False) as live:
        kept = [torch.zeros(4, 100), torch.zeros(64, dtype=torch.int8).to(torch.float32), torch.zeros(5)]
    assert live.parts[LOGITS] == 1600
    assert live.parts[DEQUANTISED] == 256
    del kept
