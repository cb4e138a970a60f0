"""Bad inputs as a table: what is wrong, the command that meets it, the one line that it says.

    world.py: a good data folder --Row.spoil--> a bad one --Row.command--> Error: one line      (tests/robustness/test_bad_inputs.py)
                                                   Row --page.py--> tests/robustness/ROBUST.md             (python -m tests.robustness.bad_inputs)
"""
