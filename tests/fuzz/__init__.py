"""Malformed inputs at every door: each is refused in one sentence, or taken; nothing else happens.

    python -m fuzz                      10,000 inputs, and a table by door
    python -m fuzz --door predict --only 17     that one input again, with its traceback

`inputs` draws what is malformed, `doors`, `files`, `own` and `commands` hold the doors, `harness`
knocks.
"""
