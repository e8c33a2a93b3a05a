"""Reference values, computed a row and a token at a time by the model's own forward."""

from collections.abc import Sequence

import torch

from vgid_core.data.pairs import Pair
from vgid_core.models.base import BaseModel


class ByHand:
    """Log-probabilities of unpadded rows, through the model's own forward."""

    def __init__(self, base: BaseModel, student: torch.nn.Module) -> None:
        self.base, self.student = base, student

    def tokens(self, pair: Pair) -> list[int]:
        return self.base.encoder.answer_ids(pair.answer)

    def logits(self, pair: Pair, adapted: bool) -> torch.Tensor:
        def compute() -> torch.Tensor:
            return plain_logits(self.base, pair.image.decode(), pair.question, self.tokens(pair)).double()

        if adapted:
            return compute()
        with self.student.disable_adapter():
            return compute()

    def log_p(self, pair: Pair, adapted: bool = True) -> list[float]:
        """Of each answer token."""
        rows = torch.softmax(self.logits(pair, adapted), 1).log()
        return [float(row[token]) for row, token in zip(rows, self.tokens(pair), strict=True)]

    def cross_entropy(self, pairs: Sequence[Pair]) -> float:
        values = [-value for pair in pairs for value in self.log_p(pair)]
        return sum(values) / len(values)

    def divergence(self, pairs: Sequence[Pair]) -> float:
        total, count = 0.0, 0
        for pair in pairs:
            for t, s in zip(self.logits(pair, False), self.logits(pair, True), strict=True):
                p, q = torch.softmax(t, 0), torch.softmax(s, 0)
                total, count = total + float((p * (p / q).log()).sum()), count + 1
        return total / count

    def states(self, pair: Pair, layer: int, adapted: bool = True) -> torch.Tensor:
        """After the layer of this number, counted from 1, where it predicts an answer token."""
        encoder, ids = self.base.encoder, self.tokens(pair)
        prompt = encoder.processor(text=encoder.prompt(pair.question), images=pair.image.decode(), return_tensors="pt")
        whole = torch.cat([prompt["input_ids"], torch.tensor([ids])], dim=1)
        given = {"input_ids": whole, "attention_mask": torch.ones_like(whole), "pixel_values": prompt["pixel_values"]}
        with torch.inference_mode():
            if adapted:
                found = self.base.model(**given, output_hidden_states=True).hidden_states
            else:
                with self.student.disable_adapter():
                    found = self.base.model(**given, output_hidden_states=True).hidden_states
        return found[layer][0, -len(ids) - 1 : -1].double()


def plain_logits(base: BaseModel, image: object, question: str, ids: list[int]) -> torch.Tensor:
    """Logits of one unpadded row through the model's own forward, nothing of ours but the prompt's text."""
    prompt = base.encoder.processor(text=base.encoder.prompt(question), images=image, return_tensors="pt")
    whole = torch.cat([prompt["input_ids"], torch.tensor([ids])], dim=1)
    with torch.inference_mode():
        out = base.model(
            input_ids=whole, attention_mask=torch.ones_like(whole), pixel_values=prompt["pixel_values"]
        ).logits
    return out[0, prompt["input_ids"].shape[1] - 1 : -1]
