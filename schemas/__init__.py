"""What the data is: recipes, records, Arrow shards and the errors of every boundary.

Imports go one way, and tests/test_imports.py enforces it:

    schemas  <-  filters  <-  trainer
    schemas  <-  synth
    flows imports all of them; nothing imports flows
"""
