"""What each figure says, in words for people who answer for privacy."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Claim(NamedTuple):
    """A figure's title, and what was done to get it."""

    title: str
    how: str


_CLAIMS = {
    "generated.rouge_l": Claim(
        "Its answers no longer hold what it was to forget",
        "The model is asked the request's questions. Its answers are compared with the true ones: 1 is word for word, "
        "and the words of a usual sentence alone give a little.",
    ),
    "generated.probability": Claim(
        "The true answers are no longer likely", "How likely the model finds each true answer."
    ),
    "extraction_strength": Claim(
        "A short beginning doesn't bring the rest back",
        "How much of a true answer the model completes from how short a beginning. 1 needs none.",
    ),
    "each_person.still_known": Claim(
        "Nobody is still known when asked alone",
        "Each person is asked alone. The share of people whose answers are still more than half right.",
    ),
    "misattributed": Claim(
        "It doesn't take the forgotten for somebody else",
        "The share of answers about the forgotten that name another known person. Such an answer is false about the "
        "one named. A model that has never met somebody guesses such names now and then.",
    ),
    "prefill.up_to_fact": Claim(
        "A prefilled answer brings no fact back", "The true answer is given up to the fact, and the model goes on."
    ),
    "prefill.into_fact": Claim(
        "A name or place that is given in part isn't completed",
        "The true answer is given into the fact, and the model goes on.",
    ),
    "ranking.*.below": Claim(
        "A list of candidates doesn't give the name away",
        "All candidates are ranked by how likely the model finds them. The true one should stand anywhere: one half of "
        "the others below it. At the bottom it would be as easy to find as at the top.",
    ),
    "ranking.*.first": Claim(
        "The true name isn't the likeliest of a list", "The share of questions whose true name is the likeliest of all."
    ),
    "ranking.*.last": Claim(
        "The true name isn't the least likely of a list", "The share of questions whose true name is the last of all."
    ),
    "ranking.*": Claim("Where the true name stands among candidates", "The share of questions with it at this place."),
    "membership.*": Claim(
        "How likely answers are doesn't tell who was in the training data",
        "The likelihood separates the forgotten from people whom the model has never seen: 0.5 is no better than a "
        "coin, and both sides of it give somebody away. Other scores are among the figures, and aren't judged.",
    ),
    "relearning.in_domain_*": Claim(
        "Training on some facts doesn't bring the others back",
        "An attacker trains the model on half of the facts, and asks for the other half.",
    ),
    "relearning.out_of_domain_*": Claim(
        "Training on other people doesn't bring facts back",
        "An attacker trains the model on other people, and asks for the forgotten.",
    ),
    "relearning.other_wordings_*": Claim(
        "Training in other words doesn't bring facts back",
        "An attacker trains the model on half of the facts in other wordings, and asks for the other half.",
    ),
    "relearning.general_*": Claim(
        "Training on anything else doesn't bring facts back",
        "An attacker trains the model on questions that are about nobody, and asks for the forgotten.",
    ),
    "in_context": Claim(
        "One true fact in the question doesn't bring another back", "Another true fact stands before the question."
    ),
    "prompts.text_only": Claim("The name alone brings nothing back", "The question is asked by name, without a photo."),
    "prompts.name_on_another_photo": Claim(
        "The name on somebody else's photo brings nothing back", "The question is asked by name, on another's photo."
    ),
    "prompts.painted_name": Claim(
        "The name painted on the photo brings nothing back", "The name stands in letters on the photo itself."
    ),
    "sampling": Claim("Drawn answers hold no fact", "Twenty answers a question, drawn at temperature 1."),
    "served_precision.*": Claim(
        "Servers' precisions bring nothing back", "The adapter merged, and the weights rounded to 8 and 4 bits."
    ),
    "earlier.known_again": Claim(
        "Who was forgotten before is still forgotten",
        "Each earlier person of whom a replay set is kept is asked again. The share of replay sets whose people are "
        "known again.",
    ),
    "everyone_else.drop": Claim(
        "Others are still known", "By how much answers about others got worse: 0 is nothing, and less is better."
    ),
}
_SETS = {
    "forget": "the request itself",
    "held_out_photos": "other photos",
    "rephrased": "other wordings",
    "replay_sets": "people forgotten before",
    "retain": "people to be kept",
    "registered_retain": "people to be kept, by the registered set",
    "utility": "other abilities",
    "neighbours": "known people in no set",
}


def claim_of(figure: str) -> Claim:
    """The claim that a figure is about. A figure without one is its own title."""
    found = (claim for pattern, claim in _CLAIMS.items() if fnmatchcase(figure, pattern))
    return next(found, Claim(figure, ""))


def set_in_words(name: str) -> str:
    """What a measured set holds; its name, if it is a client's own."""
    return _SETS.get(name, name)
