"""Passes: functions from a Model to a new Model. None changes the model it is given; each keeps inputs, outputs, names.

canonicalize   removes what says nothing
fold           evaluates constant subgraphs
layout         chooses layouts for a target by a minimum cut
legalize       decomposes what a target refuses
"""
