"""Facts that a text states about a picture, read by rules, and compared with those of another text.

Each module reads one kind (geometry, tables, readings, named things) from any rendering of it: prose, JSON,
logic forms, pipe tables, `key: value` lines. All reading is linear in the text.
"""
