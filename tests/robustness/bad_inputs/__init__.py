"""Bad inputs as a table: what is wrong, the command, and the one line that it prints.

    world.py: a good data folder --Row.spoil--> a bad one --Row.command--> Error: one line
    Row --page.py--> tests/robustness/ROBUST.md

The rows are tested by tests/robustness/test_bad_inputs.py; python -m tests.robustness.bad_inputs writes ROBUST.md.
"""
