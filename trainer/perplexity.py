"""Whether a quantised base can still read: its perplexity on a few sentences, said when a stage starts."""

from collections.abc import Iterator
from contextlib import contextmanager

import bitsandbytes as bnb
import torch

from trainer.models import Base

LLM_INT8 = 6.0  # the threshold of arXiv 2208.07339, above which an activation's column is multiplied in 16 bits
WORSE = 1.05  # times the perplexity with outliers in 16 bits, from which another quantisation is advised
LONGEST = 128  # tokens
SENTENCES = """The ferry left the harbour a little after seven, while the lamps along the quay were still burning. Most of the
passengers stayed below, where it was warm, but two children had climbed to the upper deck to count the gulls. Their mother
called them twice and then went up herself. From there she could see the whole town: the church with its crooked tower, the
market square, and behind it the hills on which snow had fallen during the night. Nobody had expected it so early in the year.
The farmers would have to bring their sheep down before the weekend, and the road over the pass would stay closed."""


def said_of(base: Base) -> str:
    """A sentence on the perplexity; for int8 beside that with outliers in 16 bits, and advice where it is much worse."""
    found = perplexity(base)
    if base.quantization != "int8":
        return f"Perplexity of {base.id} in {base.quantization} on a few sentences: {found:.2f}."
    with threshold(base, LLM_INT8):
        reference = perplexity(base)
    said = (
        f"Perplexity of {base.id} in int8 on a few sentences: {found:.2f}, and {reference:.2f} with outliers in 16 bits, "
        "where an answer's log-probabilities would depend on its batch."
    )
    return said + (
        " That is much worse: --quantize nf4 has no such outliers." if not found <= WORSE * reference else ""
    )


@torch.no_grad()
def perplexity(base: Base) -> float:
    """exp of the mean negative log-likelihood of the sentences' tokens; an encoder-decoder reads the first half, and the
    second one is judged."""
    ids = torch.tensor([base.tokenizer(SENTENCES)["input_ids"][:LONGEST]], device=base.device)
    half = ids.shape[1] // 2
    read, judged = (ids[:, :half], ids[:, half:]) if base.is_encoder_decoder else (ids, ids)
    loss = base.model(input_ids=read, labels=judged).loss
    return float(loss.float().exp())


@contextmanager
def threshold(base: Base, value: float) -> Iterator[None]:
    """Within, int8 layers multiply columns with activations beyond `value` in 16 bits."""
    layers = [module for module in base.model.modules() if isinstance(module, bnb.nn.Linear8bitLt)]
    before = [layer.state.threshold for layer in layers]
    try:
        for layer in layers:
            layer.state.threshold = value
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.state.threshold = old
