"""Certificates: what was judged, and what it takes to ask the target again without the source's framework.

certificate   the JSON document, made and read
record        the source's answers, kept beside it
verify        the replay (`isomorph verify`)
"""
