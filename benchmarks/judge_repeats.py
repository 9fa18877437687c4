"""Whether the judge says the same every time: one pair of models judged N times, in fresh processes.

    python benchmarks/judge_repeats.py SOURCE TARGET [--repeats 50]

Prints how many different reports (JSON without the times) and verdicts there were; exit code 0 if one of each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from isomorph.converters.formats import identify
from isomorph.validators import ModelFile, Report
from isomorph.validators.trial import validate


def digest(report: Report) -> str:
    """A hash of everything that the report says, apart from the times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(each) for key, each in value.items() if "seconds" not in key}
        return [timeless(each) for each in value] if isinstance(value, list) else value

    text = json.dumps(timeless(report.as_dict()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()
    subjects = [ModelFile(path, identify(path).name) for path in (arguments.source, arguments.target)]
    verdicts: Counter[str] = Counter()
    reports: Counter[str] = Counter()
    for index in range(arguments.repeats):
        report = validate(subjects[0], subjects[1])
        verdicts[report.verdict.value] += 1
        reports[digest(report)[:16]] += 1
        print(f"{index + 1}: {report.verdict.value} {digest(report)[:16]}", flush=True)
    print(f"verdicts {dict(verdicts)}, reports {dict(reports)}")
    return 0 if len(verdicts) == len(reports) == 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
