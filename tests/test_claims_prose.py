"""True sentences about prose descriptions, none of which may be contradicted, and their false neighbours.

The sentences are of the kinds that reasoning uses: parts and sums of what is drawn, other units, counts of
some of the things, one of several things of a kind.
"""

from __future__ import annotations

import pytest

from filters.grounding import check_claim

PLATE = "Rectangle KLMN has KL = 24 cm and LM = 7 cm. The diagonal KM is dashed. Angle KLM is 90°."
TANKS = (
    "A cone has radius 3 m and height 4 m. A cylinder has height 10 m. The red bar reaches 12 cm. "
    "The red box has a base of 5 cm. The grey square has a side of 7 cm."
)
PARK = (
    "There are nine people in all. Three of them are children. Five people are sitting on a bench. "
    "Two people are under a green umbrella. One black dog lies beside two white dogs."
)
SHELF = (
    "There are ten cups on the shelf: 6 red cups and 4 blue cups. A white plate holds three yellow apples."
)
WHEEL = (
    "The wheel has ten equal sections: five are red, three are blue and two are green. There are four boxes."
)
CUBES = (
    "A large red cube is on the left and a small red cube is on the right. There are three green spheres. "
    "There are two small balls and one large ball."
)
BARS = "The plum bar is red, the pear bar is yellow, the fig bar is green. Plum 20 votes, pear 15 votes."
COLD = (
    'Bergen is at -4. The red line ends at -7. PQ = -3. The sign reads "-5°C". The blue bar reaches −6 units.'
)

TRUE = {
    PLATE: (
        "Half of KL is 12.",
        "One half of KL is 12 cm.",
        "Twice KL is 48.",
        "Double LM = 14.",
        "A quarter of KL = 6.",
        "One third of KL equals 8 cm.",
        "The sum of KL and LM is 31.",
        "The difference of KL and LM is 17.",
        "The difference between KL and LM is 17.",
        "The ratio of KL to LM is 24/7.",
        "The product of KL and LM is 168.",
        "The area of the square on LM is 49.",
        "The square of LM is 49.",
        "The height above KL is 7.",
        "The height from M to KL is 7.",
        "The remaining part of KL is 20 cm.",
        "The midpoint of KL is 12 cm from K.",
        "The distance from N to LM is 24.",
        "The distance from M to KL is 7.",
        "The projection of KM onto LM is 7.",
        "The perimeter above KL is 62.",
        "Adding 6 to KL is 30.",
        "The angle adjacent to angle KLM is 89°.",
        "The line through N and LM is 9.",
        "KL plus LM is 31.",
        "KL minus LM is 17.",
        "Half of angle KLM is 45°.",
        "The bisector of angle KLM is 10 cm long.",
        "KL = 240 mm.",
        "KL is 0.24 m.",
        "LM = 70 mm.",
        "LM is 0.07 m.",
        "After scaling by 2, KL = 48.",
        "The new length of KL is 48.",
        "Together, KL and LM is 31.",
        "So with KL halved, KL = 12.",
        "KL = 24 cm.",
        "So KL is 24.",
        "KL is 24 square centimetres.",
    ),
    TANKS: (
        "Half of the cylinder's height is 5 m.",
        "The cylinder's height is 10 m.",
        "The red bar reaches 120 mm.",
        "The red bar reaches 0.12 m.",
        "The red box holds 60 cm³.",
        "The grey square has an area of 49 cm².",
        "Twice the red bar's height is 24 cm.",
        "The red bar reaches half of 24 cm.",
        "The red bar rises by 5 cm.",
    ),
    PARK: (
        "Three people are children.",
        "Five people are sitting.",
        "There are five people sitting on a bench.",
        "Two people are under the umbrella.",
        "There are six people who are not children.",
        "Two dogs are white.",
        "Without the children there are six people left.",
        "There are nine people.",
        "One dog is black.",
        "There are four people standing.",
        "There are twelve people and dogs in total.",
        "The first two people are old.",
        "In the second row there are four people.",
        "There are three people wearing hats.",
        "There are seven people besides the two under the umbrella.",
        "There are six adult people.",
        "There are three dogs.",
        "There are three people with a child's face.",
    ),
    SHELF: (
        "Six cups are red.",
        "Four cups are blue.",
        "Six of the cups are red.",
        "There are six red cups.",
        "There are ten cups.",
        "6 out of 10 cups are red.",
        "There are two more red cups than blue cups.",
        "The first four cups are blue.",
        "Taking away the red cups leaves four cups.",
        "The apples on the plate are yellow, while the plate itself is white.",
    ),
    WHEEL: (
        "Five sections are red.",
        "There are five red sections.",
        "There are three blue sections.",
        "Five of the ten sections are red.",
        "3 out of 10 sections are blue.",
        "There are two green sections.",
        "Seven sections are not blue.",
    ),
    CUBES: (
        "The large red cube is on the left.",
        "There are two red cubes.",
        "There is one large cube.",
        "There are two green spheres besides the first one.",
        "There are three balls.",
        "There are two small balls.",
    ),
    BARS: ("The plum bar is red.", "The pear bar is yellow.", "Plum got 20 of the 35 votes."),
    COLD: ("Bergen is at -4.", "The red line ends at -7.", "PQ = -3.", "The blue bar reaches -6 units."),
}
FALSE = (
    (PLATE, "KL is 25 cm."),
    (PLATE, "The length of LM is 8."),
    (PLATE, "KL = 24 mm."),
    (PLATE, "KL = 250 mm."),
    (PLATE, "LM is 0.7 m."),
    (PLATE, "Angle KLM is 80°."),
    (TANKS, "The red bar reaches 13 cm."),
    (TANKS, "The red bar reaches 130 mm."),
    (PARK, "There are eight people."),
    (SHELF, "The plate is green."),
    (SHELF, "The apples are blue."),
    (WHEEL, "There are five boxes."),
    (CUBES, "There are four green spheres."),
    (CUBES, "I see three small balls."),
    (CUBES, "The large red cube is on the right."),
    (COLD, "PQ = 3."),
    (COLD, "The blue bar reaches 6 units."),
)
NOT_SUPPORTED = (
    (BARS, "The plum bar is yellow."),
    (CUBES, "The small red cube is on the left."),
    (COLD, "Bergen is at 4."),
    (COLD, "The red line ends at 7."),
    (COLD, 'The sign reads "5°C".'),
    (COLD, "PQ = 3."),
    ("The cat on the left is grey and the cat on the right is black.", "The cat on the left is black."),
    ("City | Low\nBergen | -4\nRome | 9", 'In the table, the "Low" value for Bergen is 4'),
    ("City | Low\nBergen | -4\nRome | 9", "Bergen has 4."),
    ("The jugs hold -3, 4, 5 litres.", "The jugs hold 3, 4, 5 litres."),
    ("The mark is at (-3, 2).", "The mark is at (3, 2)."),
)


@pytest.mark.parametrize(
    ("description", "claim"), [(text, claim) for text, claims in TRUE.items() for claim in claims]
)
def test_what_follows_from_a_description_is_not_contradicted(description: str, claim: str) -> None:
    assert check_claim(claim, description) != "contradicted"


@pytest.mark.parametrize(("description", "claim"), FALSE)
def test_a_plainly_false_neighbour_is(description: str, claim: str) -> None:
    assert check_claim(claim, description) == "contradicted"


@pytest.mark.parametrize(("description", "claim"), NOT_SUPPORTED)
def test_another_sign_or_another_thing_of_the_kind_is_no_support(description: str, claim: str) -> None:
    assert check_claim(claim, description) != "supported"


@pytest.mark.parametrize(
    ("description", "claim"),
    [
        (PLATE, "KL = 240 mm."),
        (PLATE, "LM is 0.07 m."),
        (TANKS, "The red bar reaches 120 mm."),
        (SHELF, "Six cups are red."),
        (COLD, "PQ = −3."),
        (COLD, "The blue bar reaches -6 units."),
        (BARS, "The plum bar is red."),
    ],
)
def test_another_way_of_saying_it_is_support(description: str, claim: str) -> None:
    assert check_claim(claim, description) == "supported"


def test_a_unit_that_measures_something_else_is_unknown() -> None:
    assert check_claim("KL = 24 degrees.", PLATE) == "unknown"
