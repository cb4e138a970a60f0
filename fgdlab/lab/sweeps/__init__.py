"""The rooms behind ``sweep.py``: plan, states, slots, launch, collect, publish."""
