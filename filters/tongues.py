"""Which of seven European languages a text is written in, by its function words; no model is needed.

It tells prose that answers a question in German from prose that does so in English, not one language of the
world from another: other languages and texts of a word or two are "not known".
"""

from __future__ import annotations

import re

# Words that sentences about a picture can hardly do without. Languages share some, and that is no harm: the
# language with the most hits wins, and only words that it does not have itself speak against it.
_FUNCTION_WORDS = {
    "English": (
        "the a an is are was were be been of and or to in on at with for from by this that these those it "
        "its there which as has have had not so we i you can will because therefore than then question "
        "answer image picture shows see only"
    ),
    "German": (
        "der die das den dem des ein eine einen einem einer eines ist sind war wird werden und oder nicht "
        "mit für von vom zu zum zur in im an am auf aus bei nach durch weil daher also dass es ich wir "
        "sie man sich kann hat haben gibt auch wie als frage antwort lösung ergibt beträgt lautet diese "
        "dieser dieses bild zeigt sieht nur sehen"
    ),
    "French": (
        "le la les un une des du de d l et ou est sont était a ont pas ne que qu qui ce c cette ces il "
        "elle on nous je y en dans sur avec pour par au aux à donc car plus comme s n question réponse "
        "image montre voit compte"
    ),
    "Spanish": (
        "el la los las un una unos unas de del y o es son está hay no que en con por para al lo se su "
        "este esta porque como entonces pregunta respuesta"
    ),
    "Italian": (
        "il lo la i gli le un una uno di del della e o è sono c ci non che in con per al alla si questo "
        "questa perché quindi come domanda risposta"
    ),
    "Portuguese": (
        "o a os as um uma de do da dos das e ou é são há não que em no na com por para ao se este esta "
        "porque como portanto pergunta resposta"
    ),
    "Dutch": (
        "de het een is zijn was en of niet met voor van te in op aan uit bij naar door omdat dus dat dit "
        "die er ik we kan heeft hebben ook als vraag antwoord"
    ),
}
_SETS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_QUOTED = re.compile(r'"[^"\n]{1,200}"|“[^”\n]{1,200}”|„[^“”\n]{1,200}[“”]|«[^»\n]{1,200}»|`[^`\n]{1,200}`')
_FORMULA = re.compile(r"\$[^$\n]{1,400}\$|\\[A-Za-z]+")
MAX_CHARS = 20_000  # of a longer text the beginning decides


def find_language(text: str) -> str | None:
    """The language of a text, None where its function words do not tell.

    Quoted passages and formulas are left out. A language is found where at least two different words of its
    list stand in the text, more hits than any other language has, and words of the others that are not its
    own make up at most a third as many hits: a text in two languages is in neither.

    Returns: a key of the list of seven: "English", "German", "French", ...
    """
    plain = _FORMULA.sub(" ", _QUOTED.sub(" ", text[:MAX_CHARS])).lower()
    words = _WORD.findall(plain)
    hits = {language: [word for word in words if word in own] for language, own in _SETS.items()}
    best = max(hits, key=lambda language: len(hits[language]))
    own = hits[best]
    rivals = [found for language, found in hits.items() if language != best]
    if len(set(own)) < 2 or any(len(found) == len(own) for found in rivals):
        return None
    foreign = max(sum(word not in _SETS[best] for word in found) for found in rivals)
    return best if 3 * foreign <= len(own) else None
