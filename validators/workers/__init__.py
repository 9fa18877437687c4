"""Models run in processes of their own.

process    the judge's side: a worker is started, confined, asked and ended
protocol   what is said over the two pipes; a guest in another interpreter speaks it too (validators/guest)
worker     the program that runs there
"""
