"""The word lists for the people's names and facts. The words are invented or common, so no real person is meant."""

from __future__ import annotations

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

# For worlds of more than eighty people. The lists above must not change: the shipped model knows what they gave.
_MORE_FIRST_NAMES = """
Abelard Adriel Agnete Aiko Ailsa Alaric Albin Aldona Alenka Alessia Alfonso Alistair Amalia Amara Ambrose Amina Anders
Andrea Aniela Annika Anselm Ansgar Antonia Araminta Aroha Arvid Asha Asier Augusta Aurelio Aziza Balthazar Baptiste
Barnaby Benedikt Bianca Birgit Bogdan Bonifaz Boris Branka Brigida Bruno Calista Calliope Camille Carmela Casimir
Cassius Catriona Cecily Cedric Chandra Chioma Cillian Clemens Clio Conrad Corentin Cosima Cyprian Dagmar Damaris Danilo
Daphne Dario Deepika Demetra Desmond Dimitri Dominik Donatella Dorothea Dragan Dunja Ebba Edmund Efua Egon Eileen Elio
Elspeth Elvira Emil Emre Enrique Ephraim Erasmus Estelle Eudora Eugen Evander Fabian Faustine Federica Felix Femke
Ferran Filippa Finlay Flavio Florin Folke Gael Gaspard Gemma Genevieve Gerda Gianni Gisela Goran Grazia Gunnar Gustav
Gwendolyn Hamza Harriet Hedda Heloise Henrik Hilario Honora Hugo Ianthe Ignacio Igor Ingrid Iolanda Iris Isolde Ivo
Jacinta Jadwiga Jamila Janek Javier Jerome Joaquin Josephine Juno Kalle Kamil Karim Katya Kenji Kerstin Kiran Klara Kofi
Lambert Laszlo Leonie Leopold Lidia Linnea Lionel Livia Lothar Luca Lucinda Luna Lydia Madoc Mahala Malcolm Manuela
Marguerite Mariam Mats Maude Maximilian Medea Milan Minerva Mirela Moira Mordecai Nadia Nerys Niamh Nuno Obadiah Octavia
Oleander Olympia Orlando Osvaldo Ottilie Pandora Pascal Penelope Peregrine Philippa Pilar Piotr Ragnar Raisa Ramona
Raphael Renata Roderick Romilly Rosario Rufus Ruslan Salome Saskia Severin Shirin Sigrid Silvio Solveig Stellan Sunniva
Svetlana Talia Tatiana Tayo Theodora Tiberius Torsten Tristan Uriel Ursula Vaclav Valentin Veronika Viktor Violeta
Wenzel Wilhelmina Winifred Xenia Yannick Yelena Yolanda Ysolde Zacharias Zenobia Zoltan
"""
_MORE_SURNAMES = """
Abendroth Ackerley Adomako Aguirre Ainsworth Akintola Alcott Aldridge Allerton Alvarado Ambler Andersson Antonov
Applegate Arakawa Arbuthnot Archambault Armitage Arriaga Asante Atherton Aubrey Averell Babington Bachmann Balakrishnan
Bancroft Barbosa Barclay Bartos Bassani Beauchamp Bellweather Benavides Berglund Bernardi Bhattacharya Blanchard Boateng
Bogdanov Bonnaire Borowski Bosworth Braithwaite Brightwater Brunner Buchanan Burnaby Cabrera Calderon Camacho Cardenas
Carmichael Carvalho Chatterjee Chevalier Chinwe Cisneros Clavell Colbert Cordova Cranmer Crestwell Cunningham Czerny
Dabrowski Dalgaard Danforth Darnell Davenport Deschamps Devereux Diallo Dimitriou Dobson Domingues Donovan Dragomir
Dubois Dunmore Durand Dvorak Eastwick Echeverria Edevane Eisenberg Ellingham Endicott Engstrom Etxeberria Falconer
Featherstone Ferrante Fiorelli Fitzwilliam Fjeld Florescu Forsberg Foxworthy Fredriksen Friedmann Gallagher Gavrilov
Gebhardt Giordano Gladwell Gonzaga Goodfellow Grabowski Granville Greenhalgh Grimaldi Gruber Gudmundsen Guerrero Gupta
Gustafsson Halvorsen Hamasaki Hanekawa Hargreaves Hashimoto Heimdal Hellstrom Henriksen Herrera Hirano Hoffmann Holloway
Horvath Huxtable Iglesias Ingleby Ivanov Jacobsen Jaramillo Jelinek Jorgensen Kaminski Karlsen Kavanagh Keller Khatun
Kingsley Kirchner Kobayashi Kowalski Kristensen Kuznetsov Lachance Langstrom Lazarov Leclerc Lehmann Lengyel Leonardi
Levander Liebermann Lightfoot Linares Llewellyn Lockhart Lonsdale Lorenz Ludwig Lundgren Macalister Machado Magnusson
Maldonado Malinowski Mandel Marchand Martinsen Maxwell Meadows Melendez Merriweather Mikkelsen Mitchell Montague
Morgenstern Mukherjee Munoz Nagy Narayan Navarro Nguema Niemann Norrington Nygaard Oakhurst Ochoa Ogawa Okonkwo Oliveira
Olsson Ortega Overstreet Palmgren Papadakis Pascoe Pavlov Pemberton Penhaligon Pereira Pickering Popescu Prendergast
Rasmussen Reinhardt Renard Ridgeway Rivera Rossetti Sakamoto Sandoval Schreiber Seymour Silvestri Sorensen Stanhope
Sterling Stokes Svensson Takahashi Talbot Thibault Tolland Torvald Treadwell Trevelyan Underhill Valdez Varga Villanueva
Wainwright Weatherby Winterbourne Wolfram
"""
_MORE_TOWN_BEGINNINGS = """
Aspen Bay Clover Crow Dove Ember Flint Gull Heather Ivy Linden Marsh Otter Pine Quarry Rowan Swan Thistle Willow Wren
"""


def first_names(count: int) -> list[str]:
    """At least `count` different first names, as far as there are so many. There are 320."""
    return _enough(_FIRST_NAMES.split(), _MORE_FIRST_NAMES.split(), count)


def surnames(count: int) -> list[str]:
    """At least `count` different surnames, as far as there are so many. There are 320."""
    return _enough(_SURNAMES.split(), _MORE_SURNAMES.split(), count)


def towns(count: int) -> list[str]:
    """At least `count` different towns, as far as there are so many. There are 400."""
    few = [begin + end for begin in _TOWN_BEGINNINGS.split() for end in _TOWN_ENDINGS.split()]
    more = [begin + end for begin in _MORE_TOWN_BEGINNINGS.split() for end in _TOWN_ENDINGS.split()]
    return _enough(few, more, count)


def employers() -> list[str]:
    """400 companies."""
    return [f"{house} {trade}" for house in _HOUSES.split() for trade in _TRADES.split()]


def jobs() -> list[str]:
    """Occupations."""
    return _phrases(_JOBS)


def hobbies() -> list[str]:
    """Hobbies."""
    return _phrases(_HOBBIES)


def _enough(few: list[str], more: list[str], count: int) -> list[str]:
    return few if count <= len(few) else few + more


def _phrases(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(";")]
