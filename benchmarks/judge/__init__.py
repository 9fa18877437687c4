"""How well the judge judges: models, faults, their truth, and the rules of other tools.

`judge_power.py` and `judge_calibration.py` run it, `judge_page.py` renders what they wrote.
"""
