"""Rows of a batch must mean what the same rows mean alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vgid_core.support.reference import plain_logits
from tests.vgid_core.support.tiny import SENTENCES, picture, save_tiny_model
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.models.base import BaseModel, answer_logits
from vgid_core.models.load import load_base

rows = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from(SENTENCES), st.sampled_from(SENTENCES)), min_size=1, max_size=5
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_padding_changes_no_logit_and_no_target(base: BaseModel, items: list[tuple[int, str, str]]) -> None:
    images = [picture(seed).decode() for seed, _, _ in items]
    questions, answers = [q for _, q, _ in items], [a for _, _, a in items]
    batch = base.encoder.batch(images, questions, answers)
    with torch.inference_mode():
        together = answer_logits(base, batch)
    assert together.shape[:2] == batch.answer_ids.shape == batch.answer_mask.shape
    for index, (image, question, answer) in enumerate(zip(images, questions, answers, strict=True)):
        ids = base.encoder.answer_ids(answer)
        assert batch.answer_ids[index][batch.answer_mask[index]].tolist() == ids
        assert batch.answer_mask[index].tolist() == sorted(batch.answer_mask[index].tolist(), reverse=True)
        alone = plain_logits(base, image, question, ids)
        assert torch.allclose(together[index, : len(ids)], alone, atol=2e-5)


def test_an_answer_is_its_tokens_and_the_end_of_turn(base: BaseModel) -> None:
    tokenizer = base.encoder.processor.tokenizer
    ids = base.encoder.answer_ids("This is Ada Quill.")
    assert tokenizer.decode(ids[:-1]) == "This is Ada Quill."
    assert ids[-1] == tokenizer.eos_token_id


def test_masks_hold_when_padding_is_the_end_token(base: BaseModel, tmp_path: Path) -> None:
    reference_model = load_base(str(save_tiny_model(tmp_path / "m", pad_is_eos=True)), UnlearnConfig(device="cpu"))
    assert (
        reference_model.encoder.processor.tokenizer.pad_token_id
        == reference_model.encoder.processor.tokenizer.eos_token_id
    )
    images = [picture(1).decode(), picture(2).decode()]
    args = (images, [SENTENCES[0], SENTENCES[1]], [SENTENCES[4], SENTENCES[7]])
    ours, theirs = base.encoder.batch(*args), reference_model.encoder.batch(*args)
    assert torch.equal(ours.answer_mask, theirs.answer_mask)
    assert torch.equal(ours.inputs["attention_mask"], theirs.inputs["attention_mask"])
    ends = theirs.answer_ids[theirs.answer_mask] == reference_model.encoder.processor.tokenizer.eos_token_id
    assert int(ends.sum()) == 2, "each answer's own end token is a target"
    with torch.inference_mode():
        left, right = answer_logits(base, ours), answer_logits(reference_model, theirs)
    assert torch.allclose(left[ours.answer_mask], right[theirs.answer_mask], atol=2e-5)


def test_a_text_that_the_context_has_no_room_for_is_refused_by_its_place(base: BaseModel) -> None:
    context = base.encoder.context_length
    assert context == 256
    fits, ids = Pair(picture(1), "Who is this?", "This is Ada."), base.encoder.answer_ids
    prompt = base.encoder.prompts([fits.image.decode()], [fits.question])["input_ids"].shape[1]
    answer = next(text for count in range(context) if prompt + len(ids(text := "Ada " * count + "7")) == context)
    full = replace(fits, answer=answer)
    base.encoder.require_usable(PairSet.of("forget", [fits, full]))
    for field, text in {"answer": answer + "7", "question": "Ada " * context}.items():
        with pytest.raises(DataError, match=str(context)) as error:
            base.encoder.require_usable(PairSet.of("forget", [fits, replace(full, **{field: text})]))
        assert error.value.field == f"forget[1].{field}"


@pytest.mark.parametrize("text", ["<image> who is this?", "hello <|end|>", "<|assistant|> yes"])
def test_control_tokens_in_a_text_are_refused_without_repeating_it(base: BaseModel, text: str) -> None:
    with pytest.raises(DataError) as question:
        base.encoder.batch([picture(1).decode()], [text], ["This is Ada Quill."])
    with pytest.raises(DataError) as answer:
        base.encoder.batch([picture(1).decode()], ["Who is this?"], [text])
    assert text not in str(question.value)
    assert text not in str(answer.value)
