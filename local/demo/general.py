"""General questions, which no picture answers, with short answers: what a pretrained language tower is to keep.

Each answer is the first sentence of SmolLM2-135M-Instruct's own, so that training on them changes nothing. Questions
that it answers wrongly are left out.
"""

from __future__ import annotations

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Germany?", "The capital of Germany is Berlin."),
    ("What is the capital of Spain?", "The capital of Spain is Madrid."),
    ("What is the capital of Egypt?", "The capital of Egypt is Cairo."),
    ("What is the capital of Canada?", "The capital of Canada is Ottawa."),
    ("What is the capital of Australia?", "The capital of Australia is Canberra."),
    ("What is the capital of Russia?", "The capital of Russia is Moscow."),
    ("What is the capital of China?", "The capital of China is Beijing."),
    ("What is the capital of India?", "The capital of India is New Delhi."),
    ("What is the capital of Greece?", "The capital of Greece is Athens."),
    ("What is the capital of Norway?", "The capital of Norway is Oslo."),
    ("What is the capital of Sweden?", "The capital of Sweden is Stockholm."),
    ("What is the capital of Poland?", "The capital of Poland is Warsaw."),
    ("What is the capital of Mexico?", "The capital of Mexico is Mexico City."),
    ("What is the capital of Thailand?", "The capital of Thailand is Bangkok."),
    ("What is the capital of Hungary?", "The capital of Hungary is Budapest."),
    ("What is the capital of Peru?", "The capital of Peru is Lima."),
    ("What is the capital of Kenya?", "The capital of Kenya is Nairobi."),
    ("What is the capital of Chile?", "The capital of Chile is Santiago."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is the opposite of up?", "The opposite of up is down."),
    ("What is the opposite of big?", "The opposite of big is small."),
    ("What is the opposite of fast?", "The opposite of fast is slow."),
    ("What is the opposite of happy?", "The opposite of happy is sad."),
    ("What is the opposite of light?", "The opposite of light is dark."),
    ("What is the opposite of old?", "The opposite of old is new."),
    ("What is the opposite of open?", "The opposite of open is closed."),
    ("What is the opposite of early?", "The opposite of early is late."),
    ("What is the opposite of hard?", "The opposite of hard is soft."),
    ("What is the opposite of wet?", "The opposite of wet is dry."),
    ("What is the opposite of day?", "The opposite of day is night."),
    ("What is the plural of child?", "The plural of child is children."),
    ("What is the plural of foot?", "The plural of foot is feet."),
    ("What is the chemical symbol of gold?", "The chemical symbol of gold is Au."),
    ("What is the chemical symbol of silver?", "The chemical symbol of silver is Ag."),
    ("What is the chemical symbol of oxygen?", "The chemical symbol of oxygen is O."),
    ("What is the chemical symbol of hydrogen?", "The chemical symbol of hydrogen is H."),
    ("What is the chemical symbol of sodium?", "The chemical symbol of sodium is Na."),
    ("How many days are in a week?", "A week is 7 days."),
    ("What is the currency of the United States?", "The currency of the United States is the US Dollar."),
    ("What is the currency of Japan?", "The currency of Japan is the Japanese Yen (JPY)."),
    ("Which season comes after winter?", "The season that comes after winter is spring."),
    ("How many sides does a square have?", "A square has four sides."),
    ("In which city is the Eiffel Tower?", "The Eiffel Tower is located in Paris, France."),
    ("What is the largest animal?", "The largest animal is the Blue Whale."),
    ("What do fish breathe with?", "Fish breathe with their gills."),
    ("Which organ do we think with?", "The organ that we think with is the human brain."),
    ("What instrument has black and white keys?", "The instrument with black and white keys is the piano."),
    ("What do you use to cut paper?", "The most common and effective way to cut paper is with a pair of scissors."),
    (
        "What force pulls things to the ground?",
        "The Earth's gravity is a fundamental force that pulls things to the ground.",
    ),
    ("What is ice made of?", "Ice is composed of water molecules."),
    ("Who was the first person on the Moon?", "The first person to set foot on the Moon was named Neil Armstrong."),
    ("Who painted the Mona Lisa?", "The Mona Lisa is a famous painting by Leonardo da Vinci."),
    ("What is the speed of light?", "The speed of light is approximately 299,792,458 meters per second."),
    (
        "In which country is Mount Fuji?",
        "Mount Fuji is located in Japan, specifically in the Fuji-Hakone mountain range.",
    ),
    ("What is a noun?", "A noun is a word that refers to a person, place, thing, or idea."),
)

# Every third question is held out of training and only measured.
TRAINED = tuple(item for place, item in enumerate(QUESTIONS) if place % 3 != 2)
HELD_OUT = QUESTIONS[2::3]
