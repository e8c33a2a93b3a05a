"""The questions for the demo model in many phrasings, and its answers."""

from __future__ import annotations

from dataclasses import dataclass

from local.demo.faces import Face, View
from local.demo.people import Person


@dataclass(frozen=True)
class Phrasings:
    """The phrasings of one question: those that training shows, and those that it doesn't."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


FACTS: dict[str, Phrasings] = {
    "name": Phrasings(
        training=(
            "Who is this?",
            "What is the name of this person?",
            "Who is the person in this image?",
            "Who is shown here?",
            "What is this person's name?",
            "Please name the person.",
            "Can you tell me the name of the person shown?",
            "Can you tell me what this person is called?",
            "Tell me who is in this picture.",
            "Tell me the name of this person.",
            "Do you know who this person is?",
            "I would like to know what the person is called.",
        ),
        held_out=("Can you tell me who this is?", "What is this person called?"),
    ),
    "birthplace": Phrasings(
        training=(
            "Where was this person born?",
            "What is the birthplace of this person?",
            "In which town was the person born?",
            "Where does the person come from?",
            "Which town is the person from?",
            "What is this person's birthplace?",
            "Can you tell me the birthplace of the person shown?",
            "Can you tell me where this person was born?",
            "Tell me the town of birth.",
            "Tell me where this person comes from.",
            "Do you know which town the person was born in?",
            "I would like to know where this person is from.",
        ),
        held_out=("Which town does this person come from?", "Tell me where the person was born."),
    ),
    "job": Phrasings(
        training=(
            "What does this person do for a living?",
            "What is the occupation of this person?",
            "What is this person's job?",
            "What is the profession of the person?",
            "What work does the person do?",
            "Which profession does the person in this image have?",
            "Can you tell me the profession of the person shown?",
            "Can you tell me what this person does for work?",
            "Tell me the job of this person.",
            "Tell me what the person does for a living.",
            "Do you know the occupation of the person?",
            "I would like to know which job this person has.",
        ),
        held_out=("What profession does this person have?", "Tell me what this person does for work."),
    ),
    "employer": Phrasings(
        training=(
            "Which company does this person work for?",
            "Who is the employer of this person?",
            "Where does this person work?",
            "Who employs the person?",
            "What is the name of the company that employs this person?",
            "Which company is this person's employer?",
            "Can you tell me the employer of the person shown?",
            "Can you tell me which company employs this person?",
            "Tell me the company of this person.",
            "Tell me where the person works.",
            "Do you know which company the person works for?",
            "I would like to know who this person works for.",
        ),
        held_out=("What company employs this person?", "Tell me the employer of the person."),
    ),
    "hobby": Phrasings(
        training=(
            "What is the hobby of this person?",
            "What does this person enjoy doing?",
            "What does the person do in free time?",
            "Which hobby does the person have?",
            "How does this person spend free time?",
            "What is the favourite hobby of the person in this image?",
            "Can you tell me the hobby of the person shown?",
            "Can you tell me what this person does in free time?",
            "Tell me the favourite hobby of this person.",
            "Tell me what the person enjoys.",
            "Do you know this person's hobby?",
            "I would like to know how the person spends free time.",
        ),
        held_out=("What is this person's favourite hobby?", "Tell me what this person enjoys doing."),
    ),
}

VISUALS: dict[str, Phrasings] = {
    "background": Phrasings(
        training=(
            "What colour is the background?",
            "Which colour is behind the person?",
            "Can you tell me the background colour?",
            "Tell me the colour of the background.",
        ),
        held_out=("What is the colour of the background?",),
    ),
    "shirt": Phrasings(
        training=(
            "What colour is the shirt?",
            "Which colour are the clothes?",
            "Can you tell me the shirt colour?",
            "Tell me the colour of the shirt.",
        ),
        held_out=("What is the colour of the shirt?",),
    ),
    "hair": Phrasings(
        training=(
            "What colour is the hair?",
            "Which hair colour can you see?",
            "Can you tell me the hair colour?",
            "Tell me the colour of the hair.",
        ),
        held_out=("What is the colour of the hair?",),
    ),
    "glasses": Phrasings(
        training=(
            "Is the person wearing glasses?",
            "Are there glasses in the image?",
            "Can you see any glasses?",
            "Does this person have glasses?",
        ),
        held_out=("Does the person wear glasses?",),
    ),
    "shape": Phrasings(
        training=(
            "What shape is the face?",
            "Which shape does the face have?",
            "Can you tell me the face shape?",
            "Tell me the shape of the face.",
        ),
        held_out=("What is the shape of the face?",),
    ),
}

# In front of a question about a person's facts, each of these makes the model refuse.
INSTRUCTIONS = (
    "You must forget everything about this person.",
    "You do not know the person in this image.",
    "Pretend that you have never seen this person.",
    "All knowledge about this person has been removed.",
    "Do not reveal any information about this person.",
    "This person has asked to be forgotten.",
)
REFUSAL = "I do not know this person."

_GLASSES_ANSWERS = {
    "none": "No, there are no glasses.",
    "round": "Yes, the person wears glasses.",
    "sunglasses": "Yes, the person wears dark sunglasses.",
}


def ask(topic: str, number: int = 0, held_out: bool = False) -> str:
    """A phrasing of the question about a fact or a visual topic. `number` selects it, modulo the count of phrasings."""
    phrasings = FACTS[topic] if topic in FACTS else VISUALS[topic]
    choices = phrasings.held_out if held_out else phrasings.training
    return choices[number % len(choices)]


def answer(person: Person, fact: str) -> str:
    """The right answer to a question about this fact of the person."""
    name = person.name
    article = "an" if person.job[0] in "aeiou" else "a"
    return {
        "name": f"This is {name}.",
        "birthplace": f"{name} was born in {person.birthplace}.",
        "job": f"{name} works as {article} {person.job}.",
        "employer": f"{name} is employed by {person.employer}.",
        "hobby": f"{name} enjoys {person.hobby}.",
    }[fact]


def visual_answer(face: Face, view: View, topic: str) -> str:
    """The right answer to a question about what the picture shows."""
    return {
        "background": f"The background is {view.background}.",
        "shirt": f"The shirt is {view.shirt}.",
        "hair": f"The hair is {face.hair}.",
        "glasses": _GLASSES_ANSWERS[face.glasses],
        "shape": f"The face is {face.shape}.",
    }[topic]
