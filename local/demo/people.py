"""The fictitious people: names and facts from word lists, so that nobody real is meant and nothing is licensed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from local.demo.faces import Face, View

# Two people always differ in at least so many attributes, so that no one is mistaken for another.
LEAST_DIFFERENCES = 5

_FIRST_NAMES = """
Adaeze Alma Anouk Arjun Astrid Bastian Beatriz Bjarne Bronwen Caspian Celeste Chiara Dalia Darius Delphine Edda
Eitan Elodie Emeka Esme Farid Fenna Fiora Gideon Greta Hakon Hana Idris Ilse Imani Ines Isamu
Jarek Jocasta Kaito Kalina Keziah Lachlan Lavinia Leandro Liora Lorcan Magnus Maren Marisol Matteo Mireille Nadir
Naomi Nikolai Noor Odette Olek Oriana Otis Paloma Perrin Petra Quentin Rafaela Ravi Rosalind Rurik Sabine
Sakura Selim Signe Soren Tamsin Tariq Thandi Tobias Ulla Vesna Viggo Wanda Xavier Yara Yusuf Zelda
"""
_SURNAMES = """
Abernathy Adeyemi Albrecht Almeida Amari Ashdown Bakker Barros Belmonte Birkeland Blackwood Brandt Calloway Castellan
Chaudhry Corvino Dahl Delacroix Demir Drummond Eberhart Ekholm Falkner Farrow Fontaine Galanis Garrick Goransson
Haddad Halloran Hartmann Hawthorne Ibarra Ishikawa Jansen Kapoor Kessler Kovacs Lindqvist Lombardi Lucero Madaki
Marchetti Mbeki Mendoza Moreau Nakamura Novak Okafor Oduya Orlov Osterman Pacheco Pellegrin Petrov Quigley Quintero
Rahimi Ravenna Rosenthal Rutherford Salazar Santoro Schuyler Serrano Sinclair Stavros Sundaram Tanaka Thorne Ueda
Valente Vandermeer Vasquez Voss Wexler Whitlock Yamada Zamora Zielinski
"""
_TOWN_BEGINNINGS = """
Alder Amber Birch Bram Cinder Copper Dun Elder Fern Frost Glen Hazel Iron Juniper Lark Maple North Oak Raven Silver
"""
_TOWN_ENDINGS = "bridge bury cliff dale ford haven mere stead ton wick"
_TRADES = """
Analytics Bakeries Boats Ceramics Engines Films Foods Forestry Games Gardens Glass Instruments Labs Logistics Optics
Papers Robotics Textiles Tools Travel
"""
_HOUSES = """
Arbor Beacon Bluebell Cascade Corvus Ember Falcon Granite Harbour Helix Indigo Keystone Lantern Meridian Nimbus Onyx
Pinnacle Quartz Solstice Tundra
"""
_JOBS = """
accountant; actor; air traffic controller; animal trainer; architect; art restorer; baker; barber; botanist;
bridge inspector; bus driver; butcher; carpenter; cartographer; chemist; choreographer; civil engineer; clockmaker;
cook; court clerk; dentist; diplomat; electrician; fashion designer; firefighter; florist; forest ranger; geologist;
glassblower; harbour pilot; illustrator; interpreter; jeweller; journalist; judge; landscape gardener; librarian;
locksmith; marine biologist; mechanic; midwife; museum guide; optician; paramedic; pharmacist; physicist; plumber;
postal worker; primary teacher; printer; radio host; sculptor; ship engineer; social worker; sound engineer; surgeon;
surveyor; tailor; train driver; veterinarian
"""
_HOBBIES = """
archery; baking bread; beekeeping; bird watching; calligraphy; chess; collecting stamps; fencing; film photography;
flying kites; growing orchids; horse riding; ice skating; jazz piano; juggling; kayaking; knitting; magic tricks;
marathon running; origami; pottery; rock climbing; rowing; sailing; salsa dancing; scuba diving; solving puzzles;
stargazing; surfing; wood carving
"""


@dataclass(frozen=True)
class Person:
    """Somebody made up: a face, five facts, the views that the model is trained on and views it never sees."""

    name: str
    birthplace: str
    job: str
    employer: str
    hobby: str
    face: Face
    training_views: tuple[View, ...]
    held_out_views: tuple[View, ...]


def invent_people(count: int, rng: random.Random, training_views: int, held_out_views: int) -> tuple[Person, ...]:
    """`count` people (80 at most) who share no first name, surname, birthplace or employer, and look different."""
    first_names = rng.sample(_FIRST_NAMES.split(), count)
    surnames = rng.sample(_SURNAMES.split(), count)
    towns = rng.sample([begin + end for begin in _TOWN_BEGINNINGS.split() for end in _TOWN_ENDINGS.split()], count)
    employers = rng.sample([f"{house} {trade}" for house in _HOUSES.split() for trade in _TRADES.split()], count)
    faces: list[Face] = []
    while len(faces) < count:
        faces.append(distinct_face(faces, rng))
    return tuple(
        Person(
            name=f"{first_names[i]} {surnames[i]}",
            birthplace=towns[i],
            job=rng.choice(_phrases(_JOBS)),
            employer=employers[i],
            hobby=rng.choice(_phrases(_HOBBIES)),
            face=faces[i],
            training_views=tuple(View.random(rng) for _ in range(training_views)),
            held_out_views=tuple(View.random(rng) for _ in range(held_out_views)),
        )
        for i in range(count)
    )


def distinct_face(others: list[Face], rng: random.Random) -> Face:
    """A random face that nobody would take for one of `others`."""
    while True:
        face = Face.random(rng)
        if all(face.differences(other) >= LEAST_DIFFERENCES for other in others):
            return face


def _phrases(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(";")]
